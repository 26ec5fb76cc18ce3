"""Measured runs in memory: the oracle of the contract, and for simulations."""

from __future__ import annotations

import threading

from trimtab.measurement import KeptMeasurements, StepMeasurement


class MemoryMeasurements:
    """MeasurementShelf over one value."""

    def __init__(self) -> None:
        self._kept = KeptMeasurements()
        self._lock = threading.Lock()

    def kept(self) -> KeptMeasurements:
        """See the port."""
        return self._kept

    def put(self, measurement: StepMeasurement, *, again: bool = False) -> bool:
        """See the port."""
        with self._lock:
            before = self._kept
            self._kept = before.with_added(measurement, again=again)
            return self._kept != before

    def forget(self, name: str) -> frozenset[str]:
        """See the port."""
        with self._lock:
            sources = self._kept.named(name)
            self._kept = self._kept.without(sources)
            return sources
