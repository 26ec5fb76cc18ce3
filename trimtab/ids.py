"""Identifiers. Ids come from the caller; nothing here reads a clock or a random source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NewType

JobId = NewType("JobId", str)
UnitId = NewType("UnitId", str)
PlanId = NewType("PlanId", str)
PoolId = NewType("PoolId", str)
NodeId = NewType("NodeId", str)
OfferId = NewType("OfferId", str)
ProjectId = NewType("ProjectId", str)
DeviceTypeName = NewType("DeviceTypeName", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32: sorts like the number, no look-alikes
_TIME_DIGITS = 9  # 45 bits of milliseconds: until the year 3084
_RANDOM_DIGITS = 7  # 35 bits


def sortable_suffix(now: datetime, randomness: bytes) -> str:
    """Time-sortable id suffix of 16 characters: 9 of ``now`` in milliseconds, 7 of ``randomness`` (5 bytes or more)."""
    if len(randomness) < 5:
        raise ValueError("5 bytes of randomness are needed")
    return _digits(int(now.timestamp() * 1000), _TIME_DIGITS) + _digits(int.from_bytes(randomness[:5], "big"), _RANDOM_DIGITS)


def new_job_id(now: datetime, randomness: bytes) -> JobId:
    """``job_`` and a time-sortable suffix."""
    return JobId(f"job_{sortable_suffix(now, randomness)}")


def new_plan_id(now: datetime, randomness: bytes) -> PlanId:
    """``plan_`` and a time-sortable suffix."""
    return PlanId(f"plan_{sortable_suffix(now, randomness)}")


def unit_id(job_id: JobId, index: int) -> UnitId:
    """The id of unit ``index`` of a job: ``job_x.u0``."""
    return UnitId(f"{job_id}.u{index}")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AttemptRef:
    """Names one attempt of a unit. ``number`` starts at 1, only ever rises, and fences every external effect."""

    unit_id: UnitId
    number: int

    def __str__(self) -> str:
        return f"{self.unit_id}.a{self.number}"

    @classmethod
    def parse(cls, text: str) -> AttemptRef:
        """Inverse of ``str``. Raises ValueError on anything else."""
        unit, separator, number = text.rpartition(".a")
        if not separator or not number.isdigit():
            raise ValueError(f"not an attempt reference: {text!r}")
        return cls(unit_id=UnitId(unit), number=int(number))

    @property
    def job_id(self) -> JobId:
        """The job that the unit belongs to."""
        return JobId(self.unit_id.rpartition(".u")[0])


def _digits(value: int, width: int) -> str:
    out = []
    for _ in range(width):
        value, digit = divmod(value, 32)
        out.append(_ALPHABET[digit])
    return "".join(reversed(out))
