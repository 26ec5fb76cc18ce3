"""Clocks: the system's, and a virtual one that moves only when it is told to."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """The machine's clock. A ``wake`` ends the running wait of every thread, and the next wait of one that was not waiting."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._num_wakes = 0
        self._taken = threading.local()

    def now(self) -> datetime:
        """See the port."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See the port."""
        return time.monotonic()

    def wait(self, seconds: float) -> bool:
        """See the port."""
        with self._changed:
            known = getattr(self._taken, "num", 0)
            woken = self._changed.wait_for(lambda: self._num_wakes != known, timeout=max(0.0, seconds))
            self._taken.num = self._num_wakes
            return woken

    def wake(self) -> None:
        """See the port."""
        with self._changed:
            self._num_wakes += 1
            self._changed.notify_all()


class VirtualClock:
    """Time for simulations: ``wait`` advances it at once, ``advance`` and ``set_back`` move it by hand."""

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("a clock needs an aware start")
        self._wall = start
        self._elapsed_s = 0.0
        self._woken = False

    def now(self) -> datetime:
        """See the port."""
        return self._wall

    def monotonic(self) -> float:
        """See the port."""
        return self._elapsed_s

    def wait(self, seconds: float) -> bool:
        """See the port."""
        if self._woken:
            self._woken = False
            return True
        self.advance(max(0.0, seconds))
        return False

    def wake(self) -> None:
        """See the port."""
        self._woken = True

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if seconds < 0:
            raise ValueError("time does not go back; use set_back for the wall clock")
        self._elapsed_s += seconds
        self._wall += timedelta(seconds=seconds)

    def set_back(self, seconds: float) -> None:
        """Set the wall clock back (or forward, when negative); monotonic time is not touched."""
        self._wall -= timedelta(seconds=seconds)
