"""Units and columns as the optimisation sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.candidates.generate import CandidateSet, Scored, same_strategy
from planner.candidates.prune import Pruned, prune
from planner.formulation.objective import WAITING, UnitScale, column_parts, unit_scale, waiting_price
from trimtab.ids import OfferId
from trimtab.inventory import Offer
from trimtab.plan import ObjectivePart, PlanRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A candidate that survived pruning. ``stays``: the unit keeps exactly the devices that it holds.

    ``node_counts`` are the devices that it takes on each node, the largest first.
    """

    scored: Scored
    parts: tuple[ObjectivePart, ...]
    node_counts: tuple[int, ...]
    stays: bool = False

    @property
    def objective(self) -> float:
        """All parts together, in $/h."""
        return sum(part.usd_per_hour for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitColumns:
    """A unit with its columns, the price of leaving it out, and what pruning left out."""

    request: PlanRequest
    columns: tuple[Column, ...]
    waiting: ObjectivePart
    pruned: Pruned
    scale: UnitScale


def unit_columns(found: CandidateSet, offers: Mapping[OfferId, Offer], steps: Mapping[int, float]) -> UnitColumns | None:
    """The columns of a unit, or None where it has no feasible candidate."""
    if not found.feasible:
        return None
    request = found.request
    scale = unit_scale(request.spec, found.feasible)

    def parts(entry: Scored, *, moved: bool) -> tuple[ObjectivePart, ...]:
        offer = offers[entry.candidate.offer_id]
        return column_parts(entry, scale, spec=request.spec, offer=offer, moved=moved)

    def objective(entry: Scored) -> float:
        return sum(part.usd_per_hour for part in parts(entry, moved=False))

    pruned = prune(found.feasible, objective=objective, keep=lambda entry: is_current(request, entry))
    columns: list[Column] = []
    for entry in pruned.kept:
        shape = entry.candidate.shape
        if is_current(request, entry):
            counts = held_counts(request)
            columns.append(Column(scored=entry, parts=parts(entry, moved=False), node_counts=counts, stays=True))
        counts = (shape.devices_per_node,) * shape.num_nodes
        columns.append(Column(scored=entry, parts=parts(entry, moved=bool(request.held)), node_counts=counts))
    worst = max(column.objective for column in columns)
    waiting = ObjectivePart(name=WAITING, usd_per_hour=waiting_price(request, worst, steps))
    return UnitColumns(request=request, columns=tuple(columns), waiting=waiting, pruned=pruned, scale=scale)


def is_current(request: PlanRequest, entry: Scored) -> bool:
    """Whether a candidate is what the unit runs now: its pool, its number of devices on each node, its strategy."""
    if not request.held:
        return False
    candidate = entry.candidate
    counts = held_counts(request)
    return (
        {device.pool_id for device in request.held} == {candidate.pool_id}
        and counts == (candidate.shape.devices_per_node,) * candidate.shape.num_nodes
        and same_strategy(request.strategy, candidate.strategy)
    )


def held_counts(request: PlanRequest) -> tuple[int, ...]:
    """Devices that the unit holds on each node, the largest first."""
    per_node: dict[str, int] = {}
    for device in request.held:
        per_node[device.node_id] = per_node.get(device.node_id, 0) + 1
    return tuple(sorted(per_node.values(), reverse=True))


def best_first(units: Sequence[UnitColumns]) -> tuple[UnitColumns, ...]:
    """Units by what leaving them out costs per device of their smallest column, the dearest first."""
    return tuple(
        sorted(
            units,
            key=lambda unit: (
                -unit.waiting.usd_per_hour / min(sum(column.node_counts) for column in unit.columns),
                unit.request.unit_id,
            ),
        )
    )
