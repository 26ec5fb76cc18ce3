"""Times a callable on its device."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """How long one point may take in one pass: about ``seconds``, at least ``min_runs`` runs, at most ``max_runs``."""

    seconds: float
    min_runs: int = 2
    max_runs: int = 40


def sample(run: Callable[[], object], device: torch.device, slot: Slot) -> list[float]:
    """Seconds of single runs. On CUDA several runs lie between two events, so that the launches overlap as in a training step."""
    run()
    if device.type == "cuda":
        return _sample_cuda(run, slot)
    out: list[float] = []
    begin = time.perf_counter()
    while len(out) < slot.max_runs and (len(out) < slot.min_runs or time.perf_counter() - begin < slot.seconds):
        started = time.perf_counter()
        run()
        out.append(time.perf_counter() - started)
    return out


def _sample_cuda(run: Callable[[], object], slot: Slot) -> list[float]:
    torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    torch.cuda.synchronize()
    once = max(time.perf_counter() - started, 1e-6)
    per_sample = max(1, min(50, int(slot.seconds / slot.max_runs / once)))
    num_samples = max(slot.min_runs, min(slot.max_runs, int(slot.seconds / (once * per_sample))))
    out = []
    for _ in range(num_samples):
        first, last = _event(), _event()
        first.record()
        for _ in range(per_sample):
            run()
        last.record()
        last.synchronize()
        out.append(first.elapsed_time(last) / 1e3 / per_sample)
    return out


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)


def quantile(values: Sequence[float], share: float) -> float:
    """Linear-interpolated quantile of unsorted values (not empty)."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
