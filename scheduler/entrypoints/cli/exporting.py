"""What ``trimtab export`` needs of a plan: the unit's candidate, the job that it was made for, and the kind of its devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import scheduler.bootstrap as bootstrap
from scheduler.entrypoints.cli.common import Session, usage
from scheduler.entrypoints.cli.planning import plan_here, read_inventory
from scheduler.entrypoints.cli.savedplan import read_saved
from scheduler.entrypoints.documents import load_job, read_document
from trimtab.errors import InfeasibleError, NotFoundError, Problem, SpecError
from trimtab.ids import UnitId
from trimtab.inventory import DeviceKind, Inventory
from trimtab.jobspec import JobSpec
from trimtab.plan import Assignment, Candidate, Plan


class Target(StrEnum):
    """Whom a plan can be written for; the values of ``planner.export.ExportTarget``."""

    TORCHRUN = "torchrun"
    TORCHTITAN = "torchtitan"
    MEGATRON = "megatron"
    DEEPSPEED = "deepspeed"
    ACCELERATE = "accelerate"
    MAXTEXT = "maxtext"
    TRIMTAB = "trimtab"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSource:
    """Where the plan comes from: ``plan`` is a job file, a file of ``trimtab plan -o json``, or a plan's id.

    ``job`` is the job file that a plan was made from; ``inventory`` the inventory file, to plan for or to know the devices by.
    """

    plan: str
    job: Path | None
    inventory: Path | None
    unit: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One unit of a plan with its job: the candidate, the job as read, and its file as plain values with absolute paths."""

    candidate: Candidate
    spec: JobSpec
    job: Mapping[str, Any]
    device_kind: DeviceKind | None
    device_type: str


def choose(session: Session, source: PlanSource) -> Chosen:
    """The unit of the plan. Raises SpecError for documents that are wrong, InfeasibleError for a unit without devices."""
    plan = _stored(session, source)
    if plan is None:
        job = Path(source.plan)
        answer = plan_here(session.settings, job, source.inventory)
        return _chosen(answer.plan, source.unit, job=job, spec=answer.spec, inventory=answer.inventory)
    if source.job is None:
        raise usage("a plan does not hold its job: name the job file that it was made from with --job FILE")
    inventory = None
    if source.inventory is not None:
        inventory = read_inventory(session.settings, source.inventory, now=datetime.now(UTC))
    return _chosen(plan, source.unit, job=source.job, spec=load_job(source.job), inventory=inventory)


def _stored(session: Session, source: PlanSource) -> Plan | None:
    """The plan of a file or of the control process; None where the name is that of a job file."""
    path = Path(source.plan)
    if path.exists():
        saved = read_saved(path)
        return saved.plan if saved is not None else None
    if not source.plan.startswith("plan_"):
        raise NotFoundError(f"{path}: no such file, and no plan's id (plan_...)")
    client = session.running()
    if client is None:
        raise NotFoundError(f"no control process runs that could know {source.plan}")
    return client.stored_plan(source.plan)


def _chosen(plan: Plan, unit: str | None, *, job: Path, spec: JobSpec, inventory: Inventory | None) -> Chosen:
    candidate = _assignment(plan, unit).candidate
    _check_same_job(spec, candidate, job)
    kind, name = _devices(candidate, inventory)
    tree, _ = read_document(job)
    return Chosen(candidate=candidate, spec=spec, job=_absolute(tree, job.resolve().parent), device_kind=kind, device_type=name)


def _assignment(plan: Plan, unit: str | None) -> Assignment:
    if unit is not None:
        found = plan.assignment(UnitId(unit))
        if found is not None:
            return found
    elif len(plan.assignments) == 1:
        return plan.assignments[0]
    if unit is None and plan.assignments:
        said = ", ".join(str(a.unit_id) for a in plan.assignments)
        raise usage(f"plan {plan.id} places several units, name one with --unit: {said}")
    left_out = next((u for u in plan.unplaced if unit is None or u.unit_id == unit), None)
    if left_out is None:
        raise NotFoundError(f"plan {plan.id} has no unit {unit}")
    raise InfeasibleError(f"plan {plan.id} gives {left_out.unit_id} no devices: {left_out.detail}")


def _check_same_job(spec: JobSpec, candidate: Candidate, job: Path) -> None:
    """A plan of another job has other batches or layers; refuse what is certainly not this job's."""
    strategy = candidate.strategy
    if spec.train is None or spec.model is None or strategy is None:
        problem = Problem(path="kind", message=f"found {spec.kind}: a program of your own has no strategy", allowed="train")
        raise SpecError([problem], source=str(job))
    split = strategy.stage_layers
    if strategy.global_batch != spec.train.global_batch or (split and sum(split) != spec.model.num_layers):
        said = f"the plan trains {strategy.global_batch} samples a step in {strategy.label()}"
        problem = Problem(path="workload.global_batch", message=said, allowed="the job file that the plan was made from")
        raise SpecError([problem], source=str(job))


def _devices(candidate: Candidate, inventory: Inventory | None) -> tuple[DeviceKind | None, str]:
    """Kind and name of the candidate's device type, where an inventory says."""
    if inventory is None:
        return None, ""
    try:
        found = inventory.device_type(inventory.pool(candidate.pool_id).device_type)
    except KeyError:
        raise usage(f"the inventory has no pool {candidate.pool_id}, on which the plan was made") from None
    return found.kind, str(found.name)


def _absolute(tree: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The job with the paths that its file gives relative to itself made absolute."""
    changed = dict(tree)
    for section, key in (("model", "config"), ("model", "document"), ("data", "paths")):
        part = changed.get(section)
        if isinstance(part, dict) and key in part:
            value = part[key]
            full = [str((base / path).resolve()) for path in value] if isinstance(value, list) else str((base / value).resolve())
            changed[section] = {**part, key: full}
    return changed


def order(chosen: Chosen, target: Target, *, main_address: str, main_port: int, script: str) -> bootstrap.ExportOrder:
    """What the exporters ask for."""
    return bootstrap.ExportOrder(
        target=str(target),
        spec=chosen.spec,
        candidate=chosen.candidate,
        job=chosen.job,
        device_kind=chosen.device_kind or DeviceKind.GPU,
        device_types=(chosen.device_type,) if chosen.device_type else (),
        main_address=main_address,
        main_port=main_port,
        script=script,
    )
