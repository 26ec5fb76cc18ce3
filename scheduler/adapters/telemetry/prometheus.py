"""Telemetry as Prometheus metrics, named ``trimtab_*``; rendered as text for ``/metrics``."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_M = TypeVar("_M", Counter, Gauge, Histogram)
_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class PrometheusTelemetry:
    """See the port. A metric is made when it is first used, with the label names of that use. Thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}

    def count(self, name: str, value: float = 1.0, **labels: str) -> None:
        """See the port."""
        with self._lock:
            if name not in self._counters:
                self._counters[name] = Counter(f"trimtab_{name}", _words(name), sorted(labels), registry=self._registry)
            metric = self._counters[name]
        _labelled(metric, labels).inc(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """See the port."""
        with self._lock:
            if name not in self._histograms:
                self._histograms[name] = Histogram(
                    f"trimtab_{name}", _words(name), sorted(labels), registry=self._registry, buckets=_BUCKETS_S
                )
            metric = self._histograms[name]
        _labelled(metric, labels).observe(value)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """See the port."""
        with self._lock:
            if name not in self._gauges:
                self._gauges[name] = Gauge(f"trimtab_{name}", _words(name), sorted(labels), registry=self._registry)
            metric = self._gauges[name]
        _labelled(metric, labels).set(value)

    def render(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self._registry)


def _labelled(metric: _M, labels: Mapping[str, str]) -> _M:
    return metric.labels(**labels) if labels else metric


def _words(name: str) -> str:
    return name.replace("_", " ")
