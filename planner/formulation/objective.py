"""The objective of one unit, part by part, in $/h.

A run that costs C dollars and takes T hours is put on the time scale of the unit: divided by the hours T0 of its fastest
candidate, so that a long job does not outweigh a short one. Parts of a column: ``cost`` = money weight x C / T0; ``time`` =
time weight x V x T / T0, where V is what an hour of the unit is worth, the hourly price of its cheapest candidate; ``memory
risk`` and ``interruptions`` = the share of the run that is expected to be done twice; ``restart`` = moving a running unit.
``waiting`` is the price of leaving it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.candidates.generate import Scored
from planner.formulation.constants import (
    HELD_WEIGHT,
    LEAST_HOUR_VALUE_USD,
    LONGEST_WAIT_H,
    MAX_PRIORITY_STEPS,
    MONEY_WEIGHT,
    PRIORITY_BASE,
    RESTART_S,
    TIME_WEIGHT,
    WAITING_FACTOR,
)
from trimtab.ids import OfferId
from trimtab.inventory import Offer
from trimtab.jobspec import JobSpec
from trimtab.plan import Candidate, ObjectivePart, PlanRequest

COST, TIME, WAITING = "cost", "time", "waiting"
MEMORY_RISK, INTERRUPTIONS, RESTART = "memory risk", "interruptions", "restart"
PART_NAMES = (COST, TIME, WAITING, MEMORY_RISK, INTERRUPTIONS, RESTART)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitScale:
    """What the objective of a unit is measured in. ``hours`` is 0 for a program whose duration is not known.

    ``most_devices`` is the largest shape of the unit: the speed of a program is taken as proportional to its devices.
    """

    hours: float
    hour_value_usd: float
    money_weight: float
    time_weight: float
    most_devices: int


def unit_scale(spec: JobSpec, scored: Sequence[Scored]) -> UnitScale:
    """The scale of a unit from its candidates. Raises ValueError where it has none."""
    if not scored:
        raise ValueError("a unit without candidates has no scale")
    hours = min(entry.candidate.total_s.value for entry in scored) / 3600.0
    cheapest = min(scored, key=lambda entry: (entry.candidate.cost_usd.value, entry.candidate.price_usd_per_hour))
    return UnitScale(
        hours=hours,
        hour_value_usd=max(LEAST_HOUR_VALUE_USD, cheapest.candidate.price_usd_per_hour),
        money_weight=MONEY_WEIGHT[spec.optimize],
        time_weight=TIME_WEIGHT[spec.optimize],
        most_devices=max(entry.candidate.shape.num_devices for entry in scored),
    )


def column_parts(
    entry: Scored, scale: UnitScale, *, spec: JobSpec, offer: Offer, moved: bool = False
) -> tuple[ObjectivePart, ...]:
    """The parts of one column in the order of ``PART_NAMES``, those that are 0 left out (cost and time always stand)."""
    candidate = entry.candidate
    known = scale.hours > 0.0
    relative_hours = candidate.total_s.value / 3600.0 / scale.hours if known else scale.most_devices / candidate.shape.num_devices
    rate = candidate.cost_usd.value / scale.hours if known else candidate.price_usd_per_hour
    cost = scale.money_weight * rate
    time = scale.time_weight * scale.hour_value_usd * relative_hours
    lost_frac = offer.interruptions_per_hour * (spec.checkpoint.every_s / 2.0 + RESTART_S + candidate.restart_read_s) / 3600.0
    parts = {
        COST: cost,
        TIME: time,
        MEMORY_RISK: entry.overflow_frac * (cost + time),
        INTERRUPTIONS: lost_frac * (cost + time),
        RESTART: _restart(scale, candidate) if moved else 0.0,
    }
    return tuple(
        ObjectivePart(name=name, usd_per_hour=value) for name, value in parts.items() if value > 0.0 or name in (COST, TIME)
    )


def waiting_price(request: PlanRequest, worst: float, steps: Mapping[int, float]) -> float:
    """What it costs to leave a unit out, in $/h: ``worst`` is its dearest column, ``steps`` the steps of each priority."""
    weight: float = PRIORITY_BASE ** steps[request.spec.priority]
    waited = min(max(request.waiting_s, 0.0) / 3600.0 / LONGEST_WAIT_H, 1.0)
    standing = HELD_WEIGHT if request.held else 1.0 + 0.99 * waited
    return WAITING_FACTOR * max(worst, LEAST_HOUR_VALUE_USD) * weight * standing


def priority_steps(requests: Sequence[PlanRequest]) -> Mapping[int, float]:
    """Each priority of the problem as a number of steps above the lowest, at most MAX_PRIORITY_STEPS in all."""
    ranks = sorted({request.spec.priority for request in requests})
    shrink = min(1.0, MAX_PRIORITY_STEPS / max(1, len(ranks) - 1))
    return {priority: rank * shrink for rank, priority in enumerate(ranks)}


def offers_by_id(offers: Sequence[Offer]) -> Mapping[OfferId, Offer]:
    """Offers by their id."""
    return {offer.id: offer for offer in offers}


def _restart(scale: UnitScale, candidate: Candidate) -> float:
    """Money and time of a move, on the scale of the unit; for a program of unknown duration as if it ran an hour."""
    hours = (RESTART_S + candidate.restart_read_s) / 3600.0
    rate = scale.money_weight * candidate.price_usd_per_hour + scale.time_weight * scale.hour_value_usd
    return rate * hours / (scale.hours if scale.hours > 0.0 else 1.0)
