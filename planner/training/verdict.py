"""Whether a training step fits into a device: fits, tight (within the model's error of the capacity), does not fit."""

from __future__ import annotations

from dataclasses import dataclass

from planner.training.profiles import Profile
from trimtab.plan import FitVerdict

USABLE_FRAC = 0.97
"""Share of the printed memory that tensors can have: the rest is the device context and what an allocator cannot join."""
GUESSED_ERROR_FRAC = 0.2
"""Half width of the 80 % interval where the micro-batch or the recompute of the run is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryVerdict:
    """The verdict and the 80 % interval of the peak, in bytes; ``fit`` is None where no capacity is known."""

    fit: FitVerdict | None
    low_bytes: float
    high_bytes: float


def judge(peak_bytes: float, capacity_bytes: float, *, profile: Profile, is_guessed: bool = False) -> MemoryVerdict:
    """The verdict on a predicted peak of allocated memory."""
    error = GUESSED_ERROR_FRAC if is_guessed else profile.memory_error_frac
    low, high = peak_bytes * (1.0 - error), peak_bytes * (1.0 + error)
    if capacity_bytes <= 0:
        return MemoryVerdict(fit=None, low_bytes=low, high_bytes=high)
    usable = capacity_bytes * USABLE_FRAC
    if high <= usable:
        fit = FitVerdict.FITS
    elif low > usable:
        fit = FitVerdict.DOES_NOT_FIT
    else:
        fit = FitVerdict.TIGHT
    return MemoryVerdict(fit=fit, low_bytes=low, high_bytes=high)
