"""Evidence that the kernel killed for want of memory: its own counters, of our control group and of the machine."""

from __future__ import annotations

import time
from pathlib import Path

_WINDOW_S = 5.0


class OomWatch:
    """Counts out-of-memory kills since it was made.

    The control group's counter is exact. The machine's counts everybody, so only its rise within the last seconds is taken.
    """

    def __init__(self, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> None:
        self._vmstat = proc / "vmstat"
        self._counter = _group_counter((proc / "self" / "cgroup"), groups)
        self._first = _read_count(self._counter) if self._counter else None
        self._older = self._newer = (time.monotonic(), _read_count(self._vmstat))

    def sample(self) -> None:
        """To be called every second or so."""
        now_s = time.monotonic()
        if now_s - self._newer[0] >= _WINDOW_S:
            self._older, self._newer = self._newer, (now_s, _read_count(self._vmstat))

    def num_kills(self) -> int:
        """Kills that may have hit one of ours."""
        counts = [0]
        if self._counter is not None and self._first is not None:
            counts.append((_read_count(self._counter) or 0) - self._first)
        machine = _read_count(self._vmstat)
        if machine is not None and self._older[1] is not None:
            counts.append(machine - self._older[1])
        return max(counts)


def _group_counter(membership: Path, groups: Path) -> Path | None:
    """The file with ``oom_kill`` of the memory control group of this process, version 2 or 1; None where it cannot be read."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            candidate = groups / path.lstrip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            candidate = groups / "memory" / path.lstrip("/") / "memory.oom_control"
        else:
            continue
        if _read_count(candidate) is not None:
            return candidate
    return None


def _read_count(path: Path) -> int | None:
    """The number behind ``oom_kill`` in a file of names and numbers; None where there is none."""
    try:
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    except (OSError, ValueError):
        return None
    return None
