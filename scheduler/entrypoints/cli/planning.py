"""Plans for the command line: in this process, or by the control process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import scheduler.bootstrap as bootstrap
from scheduler.config import Settings
from scheduler.entrypoints.cli.planprint import unit_of
from scheduler.entrypoints.documents import load_inventory, load_job
from trimtab.client import Client
from trimtab.ids import JobId, UnitId, unit_id
from trimtab.inventory import Inventory, ProbeReport
from trimtab.jobspec import JobSpec
from trimtab.measurement import StepMeasurement
from trimtab.plan import Candidate, Plan, PlanningProblem, PlanRequest
from trimtab.prices import age_days, is_stale

_JOB = JobId("job_planned")  # a name for the unit of a plan that nothing was submitted for


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAnswer:
    """A plan with what it was asked for."""

    plan: Plan
    unit_id: UnitId
    spec: JobSpec
    inventory: Inventory

    @property
    def placed(self) -> bool:
        """Does the plan give the job devices?"""
        return self.plan.assignment(self.unit_id) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What plans in this process are made from, so that several see the same world."""

    now: datetime
    inventory: Inventory
    probes: tuple[ProbeReport, ...]
    measurements: tuple[StepMeasurement, ...]


def basis_here(settings: Settings, inventory_file: Path | None) -> Basis:
    """Pools of the file, or this machine as it is now with the probe reports that are kept; and what runs measured."""
    now = datetime.now(UTC)
    inventory, probes = _basis(settings, inventory_file, now)
    runs = bootstrap.measured_runs(settings).kept().measurements
    return Basis(now=now, inventory=inventory, probes=probes, measurements=runs)


def plan_here(settings: Settings, file: Path, inventory_file: Path | None) -> PlanAnswer:
    """Plan in this process: pools of the file, or this machine as it is now with the probe reports that are kept."""
    return plan_spec_here(settings, load_job(file), basis_here(settings, inventory_file))


def plan_spec_here(settings: Settings, spec: JobSpec, basis: Basis) -> PlanAnswer:
    """Plan in this process for a job and a basis that are already read."""
    request = PlanRequest(unit_id=unit_id(_JOB, 0), job_id=_JOB, spec=spec)
    problem = PlanningProblem(
        basis_version=0,
        now=basis.now,
        inventory=basis.inventory,
        requests=(request,),
        probes=basis.probes,
        measurements=basis.measurements,
        time_limit_s=settings.plan_seconds,
    )
    return PlanAnswer(plan=bootstrap.plan_here(problem), unit_id=request.unit_id, spec=spec, inventory=basis.inventory)


def plan_with_server(client: Client, file: Path) -> PlanAnswer:
    """Plan by the control process, beside what runs now; the plan is kept there."""
    return plan_spec_with_server(client, load_job(file))


def plan_spec_with_server(client: Client, spec: JobSpec) -> PlanAnswer:
    """As ``plan_with_server``, for a job that is already read."""
    plan = client.plan(spec)
    units = {a.unit_id for a in plan.assignments} | {u.unit_id for u in plan.unplaced}
    known = frozenset(unit for unit in units if len(units) > 1 and _is_known(client, unit))
    return PlanAnswer(plan=plan, unit_id=unit_of(plan, known=known), spec=spec, inventory=client.inventory())


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateAnswer:
    """Every candidate of a job, with what it was asked for; ``notes`` are about old prices."""

    spec: JobSpec
    inventory: Inventory
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]


def estimate_here(settings: Settings, file: Path, inventory_file: Path | None) -> EstimateAnswer:
    """Every candidate of a job, on the pools of the file or on this machine."""
    now = datetime.now(UTC)
    spec = load_job(file)
    inventory, probes = _basis(settings, inventory_file, now)
    notes = tuple(
        f"offer {offer.id}: its price is {age_days(offer.retrieved_on, now)} days old ({offer.source}, {offer.retrieved_on})"
        for offer in inventory.offers
        if not offer.is_assumed and is_stale(offer.retrieved_on, now)
    )
    runs = bootstrap.measured_runs(settings).kept().measurements
    candidates = bootstrap.estimate_here(spec, inventory, probes, measurements=runs)
    return EstimateAnswer(spec=spec, inventory=inventory, candidates=candidates, notes=notes)


def read_inventory(settings: Settings, file: Path, *, now: datetime) -> Inventory:
    """The pools of an inventory file, with the user's own device types and prices."""
    catalogue = dict(bootstrap.device_catalogue(settings, now=now))
    return load_inventory(file, catalogue=catalogue, prices=bootstrap.price_book(settings, now=now), now=now)


def _basis(settings: Settings, inventory_file: Path | None, now: datetime) -> tuple[Inventory, tuple[ProbeReport, ...]]:
    if inventory_file is not None:
        return read_inventory(settings, inventory_file, now=now), ()
    return bootstrap.local_inventory(settings, now=now), bootstrap.local_probes(settings)


def _is_known(client: Client, unit: UnitId) -> bool:
    from trimtab.errors import NotFoundError

    try:
        client.job(str(unit).rpartition(".u")[0])
    except NotFoundError:
        return False
    return True
