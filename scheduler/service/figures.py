"""Figures of candidates that several views share: spans, and the parts of a rank's memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.estimate import Estimate
from trimtab.plan import RankMemory

MEMORY_PARTS = (
    ("parameters", "parameters_bytes"),
    ("gradients", "gradients_bytes"),
    ("optimizer state", "optimizer_bytes"),
    ("activations", "activations_bytes"),
    ("logits and loss", "logits_bytes"),
    ("communication buffers", "communication_bytes"),
    ("transient", "transient_bytes"),
)
"""Names of the parts of ``RankMemory`` with the fields that hold them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A value with its 80 % interval, in the unit of the field that holds it; ``low == high``: no interval is known."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, estimate: Estimate) -> Span:
        """The span of an estimate."""
        return cls(value=estimate.value, low=estimate.low, high=estimate.high)

    @classmethod
    def exactly(cls, value: float) -> Span:
        """A value without an interval."""
        return cls(value=value, low=value, high=value)

    @property
    def is_exact(self) -> bool:
        """Whether there is no interval."""
        return self.low == self.high

    def overlaps(self, other: Span) -> bool:
        """Whether the intervals share a point."""
        return self.low <= other.high and other.low <= self.high


def fullest(memory: Sequence[RankMemory]) -> RankMemory:
    """The stage whose ranks hold most."""
    return max(memory, key=lambda rank: rank.total_bytes.value)
