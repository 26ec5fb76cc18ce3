"""Constants of the objective. Each is an assumption with a meaning; a plan lists those that it used."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trimtab.estimate import Constant, Origin
from trimtab.jobspec import Optimize

MONEY_WEIGHT: Mapping[Optimize, float] = MappingProxyType(
    {Optimize.TIME: 0.01, Optimize.BALANCED: 1.0, Optimize.COST: 1.0, Optimize.DEADLINE: 1.0}
)
"""What a dollar spent counts in the objective of a job."""

TIME_WEIGHT: Mapping[Optimize, float] = MappingProxyType(
    {Optimize.TIME: 1.0, Optimize.BALANCED: 1.0, Optimize.COST: 0.01, Optimize.DEADLINE: 0.01}
)
"""What an hour of a job counts, in hours of its cheapest configuration. Not 0: of equally cheap ones the faster is better."""

LEAST_HOUR_VALUE_USD = 0.05
"""An hour of a job is worth at least this, also on machines that cost nothing."""

WAITING_FACTOR = 2.0
"""Leaving a unit out costs this many times its worst configuration, so that running badly beats not running."""

PRIORITY_BASE = 4.0
"""One step of priority in this problem weighs this much more; above any weight that waiting or holding devices gives."""

MAX_PRIORITY_STEPS = 6
"""Steps of priority that are told apart in weight; more distinct priorities share this range."""

LONGEST_WAIT_H = 24.0
"""Waiting raises the weight of a unit up to nearly double, and no further after this long."""

HELD_WEIGHT = 2.0
"""A running unit weighs as much as one of its priority that waited longest: waiting alone never takes its devices."""

RESTART_S = 60.0
"""Checkpoint, stop, start and reload of a unit that is moved, where nothing was measured."""


def objective_constants() -> tuple[Constant, ...]:
    """The assumptions of the objective, for the plan."""
    pairs = (
        ("money weight, optimize: time", MONEY_WEIGHT[Optimize.TIME], "a dollar counts little when time is asked for"),
        ("time weight, optimize: cost and deadline", TIME_WEIGHT[Optimize.COST], "an hour counts little when cost is asked for"),
        ("least value of an hour of a job (usd)", LEAST_HOUR_VALUE_USD, "machines without a price"),
        ("restart of a moved unit (s)", RESTART_S, "checkpoint, stop, start and reload"),
    )
    return tuple(Constant(name=name, value=value, origin=Origin.ASSUMED, source=source) for name, value, source in pairs)
