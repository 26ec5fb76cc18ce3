"""From candidates to the linear model: objective parts, columns, master and the greedy plan."""

from planner.formulation.columns import Column, UnitColumns, best_first, unit_columns
from planner.formulation.constants import objective_constants
from planner.formulation.greedy import greedy, item, items
from planner.formulation.master import Cut, Master, build_master, conflict_cut
from planner.formulation.objective import (
    PART_NAMES,
    UnitScale,
    column_parts,
    offers_by_id,
    priority_steps,
    unit_scale,
    waiting_price,
)

__all__ = [
    "PART_NAMES",
    "Column",
    "Cut",
    "Master",
    "UnitColumns",
    "UnitScale",
    "best_first",
    "build_master",
    "column_parts",
    "conflict_cut",
    "greedy",
    "item",
    "items",
    "objective_constants",
    "offers_by_id",
    "priority_steps",
    "unit_columns",
    "unit_scale",
    "waiting_price",
]
