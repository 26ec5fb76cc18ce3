"""Choose columns for all units and place them: greedy start, exact master, placement, cuts where placement fails."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.formulation.columns import UnitColumns
from planner.formulation.greedy import greedy, items
from planner.formulation.master import Cut, Master, build_master, conflict_cut
from planner.placement.fit import Packed, pack
from planner.placement.occupancy import PoolSlots
from planner.solve.adapter import solve
from planner.solve.model import Answer
from planner.solve.pulp_backends import BACKENDS, Backend
from trimtab.errors import SolverError
from trimtab.ids import OfferId, PoolId, UnitId
from trimtab.job import DeviceRef
from trimtab.plan import SolveStatus

MAX_CUT_ROUNDS = 24
"""Times that the master is solved again with a cut before the greedy plan is compared and the best one taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Chosen columns (unit position -> column position) with their devices, and what is proved about them."""

    picked: Mapping[int, int]
    devices: Mapping[UnitId, tuple[DeviceRef, ...]]
    objective: float
    bound: float
    status: SolveStatus
    solver: str


def optimise(
    units: Sequence[UnitColumns],
    slots: Mapping[PoolId, PoolSlots],
    offer_limits: Mapping[OfferId, int],
    *,
    time_limit_s: float,
    backends: Sequence[Backend] = BACKENDS,
) -> Choice:
    """The best columns that can be placed.

    Each round has half of the time that is left. Where a solver fails, or no round could be placed, the greedy plan stands,
    with what bound there is. A cut that rests on an unfinished search is no proof: the bound stays that of the rounds before it.
    """
    if not units:
        return Choice(picked={}, devices={}, objective=0.0, bound=0.0, status=SolveStatus.OPTIMAL, solver="none needed")
    start = greedy(units, slots, offer_limits)
    cuts: list[Cut] = []
    bound, proven, solver, status = -math.inf, True, "greedy", SolveStatus.ERROR
    for round_number in range(MAX_CUT_ROUNDS):
        master = build_master(units, slots, offer_limits, cuts=cuts)
        try:
            answer = solve(
                master.model,
                time_limit_s=time_limit_s / 2.0 ** (min(round_number, 6) + 1),
                start=master.encode(start),
                backends=backends,
            )
        except SolverError:
            break
        solver, status = answer.solver, answer.status
        bound = max(bound, answer.bound) if proven else bound
        picked = master.chosen_columns(answer.chosen)
        packed = pack(slots, items(units, picked))
        if isinstance(packed, Packed):
            return _choice(master, answer, picked, packed, bound=bound, proven=proven)
        cuts.append(conflict_cut(packed, units, picked))
        proven = proven and packed.proven
    packed = pack(slots, items(units, start))
    assert isinstance(packed, Packed), "the greedy plan is placed as it is made"
    objective = objective_of(units, start)
    return Choice(
        picked=start,
        devices=packed.devices,
        objective=objective,
        bound=min(bound, objective),
        status=status if status is SolveStatus.ERROR else SolveStatus.FEASIBLE,
        solver="greedy" if solver == "greedy" else f"greedy, bound by {solver}",
    )


def objective_of(units: Sequence[UnitColumns], picked: Mapping[int, int]) -> float:
    """The objective of a choice in $/h: parts of the chosen columns and the waiting of the units left out."""
    total = 0.0
    for position, unit in enumerate(units):
        chosen = picked.get(position)
        total += unit.waiting.usd_per_hour if chosen is None else unit.columns[chosen].objective
    return total


def _choice(master: Master, answer: Answer, picked: Mapping[int, int], packed: Packed, *, bound: float, proven: bool) -> Choice:
    status = answer.status
    if not proven and status is SolveStatus.OPTIMAL and bound < answer.objective - 1e-6 * max(1.0, abs(answer.objective)):
        status = SolveStatus.FEASIBLE
    return Choice(
        picked=picked,
        devices=packed.devices,
        objective=answer.objective,
        bound=min(bound, answer.objective),
        status=status,
        solver=answer.solver,
    )
