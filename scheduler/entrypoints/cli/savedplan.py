"""A plan as a file: what ``trimtab plan -o json`` prints, and its reading. The job and the pools stand beside the plan."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from scheduler.entrypoints.cli.planning import PlanAnswer
from trimtab.errors import NotFoundError, Problem, SpecError
from trimtab.ids import UnitId
from trimtab.inventory import Inventory
from trimtab.jobspec import JobSpec
from trimtab.plan import Plan
from trimtab.wire import Json, WireError, decode, encode

_PLAN_KEYS = frozenset({"assignments", "unplaced"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPlan:
    """A plan from a file; ``unit_id``, ``spec`` and ``inventory`` are None where the file holds the plan alone."""

    plan: Plan
    unit_id: UnitId | None
    spec: JobSpec | None
    inventory: Inventory | None


def plan_data(answer: PlanAnswer) -> dict[str, Json]:
    """The plan's fields, and beside them the unit, the job, and the pools that it chose from, without their machines."""
    used = {a.candidate.pool_id for a in answer.plan.assignments}
    used |= {other.pool_id for a in answer.plan.assignments for other in a.alternatives}
    pools = tuple(replace(pool, nodes=()) for pool in answer.inventory.pools if pool.id in used)
    types = {pool.device_type for pool in pools}
    inventory = replace(
        answer.inventory,
        pools=pools,
        offers=tuple(offer for offer in answer.inventory.offers if offer.pool_id in used),
        device_types=tuple(kind for kind in answer.inventory.device_types if kind.name in types),
    )
    beside = {"unit_id": str(answer.unit_id), "job": encode(answer.spec), "inventory": encode(inventory)}
    return {**encode(answer.plan), **beside}


def read_saved(path: Path) -> SavedPlan | None:
    """The plan of a file; None where it holds something else, such as a job.

    Raises SpecError for a plan that cannot be read, NotFoundError for a missing file.
    """
    if not path.exists():
        raise NotFoundError(f"{path}: no such file")
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if not text.lstrip().startswith("{"):
        return None
    try:
        tree = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not set(tree) >= _PLAN_KEYS:
        return None
    try:
        return SavedPlan(
            plan=decode(Plan, tree),
            unit_id=UnitId(str(tree["unit_id"])) if "unit_id" in tree else None,
            spec=decode(JobSpec, tree["job"], "job") if "job" in tree else None,
            inventory=decode(Inventory, tree["inventory"], "inventory") if "inventory" in tree else None,
        )
    except (WireError, ValueError) as error:
        problem = Problem(path="", message=f"not a plan: {error}", allowed="what trimtab plan FILE -o json prints")
        raise SpecError([problem], source=str(path)) from error
