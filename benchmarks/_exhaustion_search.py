"""Where a worker runs out of memory: the search for the largest size that runs, and what it says of the predictions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trimtab.plan import FitVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One configuration: ``size`` is what is stepped, and what was said before it was run; bytes of its worst rank."""

    family: str
    size: int
    verdict: FitVerdict
    ran: bool
    predicted_needed_bytes: float
    predicted_tensor_bytes: float
    resident_peak_bytes: int
    peak_tensor_bytes: int | None = None


def ladder(start: int, *, step_frac: float, low_frac: float, high_frac: float) -> list[int]:
    """Sizes from ``start * low_frac`` to ``start * high_frac``, each at least 1 and ``step_frac`` above the one before.

    ``start`` itself is one of them. Raises ValueError where it is below 1.
    """
    if start < 1:
        raise ValueError(f"a ladder starts at 1 or more, found {start}")
    sizes = {start}
    size = float(start)
    while size < start * high_frac:
        size = max(size * (1.0 + step_frac), round(size) + 1.0)
        sizes.add(round(size))
    size = float(start)
    while round(size) > max(1.0, start * low_frac):
        size = min(size / (1.0 + step_frac), round(size) - 1.0)
        sizes.add(max(1, round(size)))
    return sorted(sizes)


def largest(sizes: Sequence[int], holds: Callable[[int], bool], *, first: int) -> int | None:
    """The largest of the ascending ``sizes`` that holds, None where none does; tried is ``first``, then outwards, then between.

    What holds is taken to hold for every smaller size. Each size is tried once at most.
    """
    low, high = -1, len(sizes)
    index, stride = sizes.index(first), 1
    while high - low > 1:
        if holds(sizes[index]):
            low = index
            index = min(low + stride, high - 1) if high == len(sizes) else (low + high) // 2
        else:
            high = index
            index = max(high - stride, low + 1) if low == -1 else (low + high) // 2
        stride *= 2
    return None if low < 0 else sizes[low]


def figures(tried: Sequence[Tried], largest_predicted: dict[str, int], largest_real: dict[str, int]) -> dict[str, float | None]:
    """The figures of the benchmark.

    ``largest_*`` are sizes by family. A ratio above 1 promises more than the worker can do. Errors are relative to the measured
    value; the tensors' are of the configurations whose peak was measured, the need's of those that ran to the end.
    """
    ratios = [largest_predicted[name] / real for name, real in largest_real.items()]
    tensors = [abs(one.predicted_tensor_bytes / one.peak_tensor_bytes - 1.0) for one in tried if one.peak_tensor_bytes]
    needs = [abs(one.predicted_needed_bytes / one.resident_peak_bytes - 1.0) for one in tried if one.ran]
    return {
        "configurations_count": float(len(tried)),
        "ran_out_count": float(sum(not one.ran for one in tried)),
        "false_fits_count": float(sum(one.verdict is FitVerdict.FITS and not one.ran for one in tried)),
        "false_does_not_fit_count": float(sum(one.verdict is FitVerdict.DOES_NOT_FIT and one.ran for one in tried)),
        "tight_frac": sum(one.verdict is FitVerdict.TIGHT for one in tried) / len(tried) if tried else None,
        "largest_predicted_over_real_median_ratio": statistics.median(ratios) if ratios else None,
        "largest_predicted_over_real_highest_ratio": max(ratios, default=None),
        "largest_predicted_over_real_lowest_ratio": min(ratios, default=None),
        "tensor_peak_mean_error_frac": statistics.fmean(tensors) if tensors else None,
        "tensor_peak_worst_error_frac": max(tensors, default=None),
        "resident_peak_mean_error_frac": statistics.fmean(needs) if needs else None,
        "resident_peak_worst_error_frac": max(needs, default=None),
    }
