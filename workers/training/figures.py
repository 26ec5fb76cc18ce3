"""Timing and memory figures of a run."""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections import deque
from pathlib import Path

from trimtab.processes import stat

RECENT_STEPS = 20
SETTLING_STEPS = 2
"""Steps at the start of an attempt whose time is not typical: caches fill, state is made."""


class StepTimes:
    """Seconds of the steps of this attempt."""

    def __init__(self) -> None:
        self._all: list[float] = []
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self._num_steps = 0
        self._last_untypical = 0.0

    def add(self, seconds: float, *, typical: bool) -> None:
        """One step; not ``typical`` where something else was measured in it."""
        self._num_steps += 1
        if typical and self._num_steps > SETTLING_STEPS:
            self._all.append(seconds)
            self._recent.append(seconds)
        elif not self._recent:
            self._last_untypical = seconds

    @property
    def recent_s(self) -> float:
        """Median of the last steps; 0 before the first."""
        if self._recent:
            return statistics.median(self._recent)
        return self._last_untypical

    def figures(self) -> dict[str, float]:
        """Median and quartiles over the typical steps."""
        if not self._all:
            return {}
        figures = {"step_median_s": statistics.median(self._all), "timed_steps": float(len(self._all))}
        if len(self._all) >= 4:
            low, _, high = statistics.quantiles(self._all, n=4)
            figures |= {"step_low_quartile_s": low, "step_high_quartile_s": high}
        return figures


def process_age_s() -> float | None:
    """Seconds since this process was started, imports included; None where the system does not tell."""
    found = stat(os.getpid())
    if found is None:
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - found.start_ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes() -> int:
    """Highest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # unlike ru_maxrss, not inherited from the process that started this one
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def memory_figures(peaks: list[tuple[int, int]]) -> dict[str, float]:
    """Peak tensor bytes and resident bytes by rank."""
    figures = {}
    for rank, (tensor_bytes, resident) in enumerate(peaks):
        if tensor_bytes:
            figures[f"peak_tensor_bytes_rank_{rank}"] = float(tensor_bytes)
        figures[f"resident_bytes_rank_{rank}"] = float(resident)
    return figures
