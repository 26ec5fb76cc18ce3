"""Times a callable on its device.

On a CPU a kernel that runs in a loop finds its code, its branches and its operands warm, which in a training step it never does:
short kernels take up to twice as long there. So other work is done between two timed runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F

LONG_RUN_S = 2e-3
"""From this length on it makes no difference what ran before."""
STIRRED_BYTES = 1 << 20
STIRRED_WIDTH = 64


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
        if not out or out[-1] < LONG_RUN_S:
            stir()
        started = time.perf_counter()
        run()
        out.append(time.perf_counter() - started)
    return out


def stir() -> None:
    """Other work, a tenth of a millisecond of it: what the core kept warm of the last run is gone afterwards."""
    data, wide = _stirred()
    rows = F.linear(F.rms_norm(wide, (STIRRED_WIDTH,)), wide.view(-1, STIRRED_WIDTH))
    F.softmax(F.silu(rows) * rows, dim=-1)
    F.scaled_dot_product_attention(wide, wide, wide, is_causal=True)
    data.mul_(0.999)


@cache
def _stirred() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(STIRRED_BYTES // 4), torch.ones(2, 32, STIRRED_WIDTH)


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
