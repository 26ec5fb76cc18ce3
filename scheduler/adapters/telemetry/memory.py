"""Counters and timings kept in memory, for tests and for the status page."""

from __future__ import annotations

import threading
from collections.abc import Mapping

Key = tuple[str, tuple[tuple[str, str], ...]]


class MemoryTelemetry:
    """Counts, gauges and, of each observed value, its number, sum and largest. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Key, float] = {}
        self._gauges: dict[Key, float] = {}
        self._observed: dict[Key, tuple[int, float, float]] = {}

    def count(self, name: str, value: float = 1.0, **labels: str) -> None:
        """See the port."""
        with self._lock:
            self._counts[_key(name, labels)] = self._counts.get(_key(name, labels), 0.0) + value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """See the port."""
        with self._lock:
            number, total, largest = self._observed.get(_key(name, labels), (0, 0.0, float("-inf")))
            self._observed[_key(name, labels)] = (number + 1, total + value, max(largest, value))

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """See the port."""
        with self._lock:
            self._gauges[_key(name, labels)] = value

    def counted(self, name: str, **labels: str) -> float:
        """The counter's value; without labels the sum over all of that name."""
        with self._lock:
            if labels:
                return self._counts.get(_key(name, labels), 0.0)
            return sum(value for (found, _), value in self._counts.items() if found == name)

    def observed(self, name: str, **labels: str) -> tuple[int, float, float]:
        """Number, sum and largest of the observed values."""
        with self._lock:
            return self._observed.get(_key(name, labels), (0, 0.0, float("-inf")))

    def gauged(self, name: str, **labels: str) -> float | None:
        """The gauge's value."""
        with self._lock:
            return self._gauges.get(_key(name, labels))


def _key(name: str, labels: Mapping[str, str]) -> Key:
    return name, tuple(sorted((key, str(value)) for key, value in labels.items()))
