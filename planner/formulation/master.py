"""The master: one column per unit or none, within the capacity of every pool and offer.

Binary x per column, binary u per unit (left out). Rows: one of each unit; devices of each pool; devices of each offer; and
for each pool and size K the big-item rows, which count the items of at least K devices on one node against what the nodes can
hold (a node with f free devices holds at most f // K of them). Found conflicts of placement come as cuts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.formulation.columns import Column, UnitColumns
from planner.placement.fit import Conflict
from planner.placement.occupancy import PoolSlots
from planner.solve.model import LinearModel, Row, Sense, Variable
from trimtab.ids import OfferId, PoolId, UnitId


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Not all of these may be chosen together: of each unit any of the given columns, at most ``limit`` of the units."""

    columns: Mapping[UnitId, tuple[int, ...]]
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    """The model, and what its variables stand for: (unit, column) for each x, then one u per unit."""

    model: LinearModel
    choices: tuple[tuple[int, int], ...]
    num_units: int

    def chosen_columns(self, chosen: frozenset[int]) -> dict[int, int]:
        """Unit position -> column position, of the units that are not left out."""
        return dict(self.choices[index] for index in chosen if index < len(self.choices))

    def encode(self, picked: Mapping[int, int]) -> frozenset[int]:
        """Inverse of ``chosen_columns``."""
        positions = {choice: index for index, choice in enumerate(self.choices)}
        ones = {positions[unit, column] for unit, column in picked.items()}
        ones |= {len(self.choices) + unit for unit in range(self.num_units) if unit not in picked}
        return frozenset(ones)


def build_master(
    units: Sequence[UnitColumns],
    slots: Mapping[PoolId, PoolSlots],
    offer_limits: Mapping[OfferId, int],
    *,
    cuts: Sequence[Cut] = (),
) -> Master:
    """The linear model of all units; ``offer_limits`` are the devices that each offer still has. Rows are in integers."""
    choices = tuple((u, c) for u, unit in enumerate(units) for c in range(len(unit.columns)))
    variables = [Variable(name=f"x{u}_{c}", cost=units[u].columns[c].objective) for u, c in choices]
    variables += [Variable(name=f"u{u}", cost=unit.waiting.usd_per_hour) for u, unit in enumerate(units)]
    rows = _one_of_each(units, choices)
    rows += _capacity_rows(units, choices, slots, offer_limits)
    rows += [_cut_row(position, cut, units, choices) for position, cut in enumerate(cuts)]
    return Master(
        model=LinearModel(name="master", variables=tuple(variables), rows=tuple(rows)),
        choices=choices,
        num_units=len(units),
    )


def conflict_cut(conflict: Conflict, units: Sequence[UnitColumns], picked: Mapping[int, int]) -> Cut:
    """Forbid what placement could not place: the same units with these columns, or with ones of that pool that need no less."""
    members = {units[u].request.unit_id: u for u in picked if units[u].request.unit_id in conflict.unit_ids}
    columns: dict[UnitId, tuple[int, ...]] = {}
    for unit_id, u in members.items():
        reference = units[u].columns[picked[u]]
        columns[unit_id] = tuple(
            c for c, column in enumerate(units[u].columns) if _needs_no_less(column, reference, exact=not conflict.proven)
        )
    return Cut(columns=columns, limit=len(columns) - 1)


def _needs_no_less(column: Column, reference: Column, *, exact: bool) -> bool:
    if column is reference:
        return True
    if exact or column.scored.candidate.pool_id != reference.scored.candidate.pool_id or reference.stays:
        return False
    padded = column.node_counts[: len(reference.node_counts)]
    return len(padded) == len(reference.node_counts) and all(
        ours >= theirs for ours, theirs in zip(padded, reference.node_counts, strict=True)
    )


def _one_of_each(units: Sequence[UnitColumns], choices: Sequence[tuple[int, int]]) -> list[Row]:
    members: list[list[tuple[int, int]]] = [[] for _ in units]
    for index, (u, _) in enumerate(choices):
        members[u].append((index, 1))
    return [
        Row(name=f"one_of_u{u}", terms=(*terms, (len(choices) + u, 1)), sense=Sense.EQUAL, limit=1)
        for u, terms in enumerate(members)
    ]


def _capacity_rows(
    units: Sequence[UnitColumns],
    choices: Sequence[tuple[int, int]],
    slots: Mapping[PoolId, PoolSlots],
    offer_limits: Mapping[OfferId, int],
) -> list[Row]:
    by_pool: dict[PoolId, list[tuple[int, Column]]] = {}
    by_offer: dict[OfferId, list[tuple[int, Column]]] = {}
    for index, (u, c) in enumerate(choices):
        column = units[u].columns[c]
        by_pool.setdefault(column.scored.candidate.pool_id, []).append((index, column))
        by_offer.setdefault(column.scored.candidate.offer_id, []).append((index, column))
    rows: list[Row] = []
    for number, pool_id in enumerate(sorted(by_pool)):
        rows += _pool_rows(number, slots[pool_id], by_pool[pool_id])
    for number, offer_id in enumerate(sorted(by_offer)):
        terms = tuple((index, sum(column.node_counts)) for index, column in by_offer[offer_id])
        rows.append(Row(name=f"offer{number}", terms=terms, sense=Sense.AT_MOST, limit=offer_limits[offer_id]))
    return rows


def _pool_rows(number: int, slots: PoolSlots, members: Sequence[tuple[int, Column]]) -> list[Row]:
    terms = tuple((index, sum(column.node_counts)) for index, column in members)
    rows = [Row(name=f"pool{number}", terms=terms, sense=Sense.AT_MOST, limit=slots.num_free)]
    sizes = sorted({count for _, column in members for count in column.node_counts if count > 1})
    for size in sizes:
        counted = ((index, sum(count >= size for count in column.node_counts)) for index, column in members)
        held = sum(len(node.free) // size for node in slots.nodes)
        big = tuple((index, count) for index, count in counted if count)
        rows.append(Row(name=f"pool{number}_size{size}", terms=big, sense=Sense.AT_MOST, limit=held))
    return rows


def _cut_row(position: int, cut: Cut, units: Sequence[UnitColumns], choices: Sequence[tuple[int, int]]) -> Row:
    terms = tuple((index, 1) for index, (u, c) in enumerate(choices) if c in cut.columns.get(units[u].request.unit_id, ()))
    return Row(name=f"cut{position}", terms=terms, sense=Sense.AT_MOST, limit=cut.limit)
