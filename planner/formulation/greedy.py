"""A plan without a solver: the dearest to leave out first, each with its best column that still can be placed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.formulation.columns import Column, UnitColumns, best_first
from planner.placement.fit import Item, Packed, pack
from planner.placement.occupancy import PoolSlots
from trimtab.ids import OfferId, PoolId, UnitId


def greedy(
    units: Sequence[UnitColumns], slots: Mapping[PoolId, PoolSlots], offer_limits: Mapping[OfferId, int]
) -> dict[int, int]:
    """Unit position -> column position.

    Units that hold devices come first, so that nothing is put on top of them; then the dearest to leave out. Each first takes its
    smallest column that can be placed, so that as many as possible run; then each in turn takes its best one that still can.
    """
    position = {unit.request.unit_id: index for index, unit in enumerate(units)}
    order = [position[unit.request.unit_id] for unit in sorted(best_first(units), key=lambda unit: not unit.request.held)]
    picked: dict[int, int] = {}
    for index in order:
        columns = units[index].columns
        smallest = sorted(
            range(len(columns)), key=lambda c: (not columns[c].stays, sum(columns[c].node_counts), columns[c].objective, c)
        )
        _take_first(units, slots, offer_limits, picked, index, smallest)
    for index in order:
        columns = units[index].columns
        best = sorted(range(len(columns)), key=lambda c: (columns[c].objective, not columns[c].stays, c))
        known = picked.get(index)
        _take_first(units, slots, offer_limits, picked, index, best if known is None else best[: best.index(known)])
    return picked


def items(units: Sequence[UnitColumns], picked: Mapping[int, int]) -> list[Item]:
    """What placement has to place."""
    return [item(units[u].request.unit_id, units[u], units[u].columns[c]) for u, c in sorted(picked.items())]


def item(unit_id: UnitId, unit: UnitColumns, column: Column) -> Item:
    """One chosen column as an item of placement."""
    candidate = column.scored.candidate
    held = unit.request.held if column.stays else ()
    return Item(unit_id=unit_id, pool_id=candidate.pool_id, shape=candidate.shape, held=held)


def _take_first(
    units: Sequence[UnitColumns],
    slots: Mapping[PoolId, PoolSlots],
    offer_limits: Mapping[OfferId, int],
    picked: dict[int, int],
    index: int,
    columns: Sequence[int],
) -> None:
    """Give a unit the first of the columns that can be placed beside what is picked; without one, all stays as it is."""
    for column in columns:
        trial = {**picked, index: column}
        if _within_offers(units, trial, offer_limits) and isinstance(pack(slots, items(units, trial)), Packed):
            picked[index] = column
            return


def _within_offers(units: Sequence[UnitColumns], picked: Mapping[int, int], offer_limits: Mapping[OfferId, int]) -> bool:
    used: dict[OfferId, int] = {}
    for u, c in picked.items():
        candidate = units[u].columns[c].scored.candidate
        used[candidate.offer_id] = used.get(candidate.offer_id, 0) + candidate.shape.num_devices
    return all(count <= offer_limits[offer_id] for offer_id, count in used.items())
