"""The composition root: the only place that knows which adapter stands behind which port."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from scheduler.adapters.measurements.file import MeasurementFile
from scheduler.adapters.prices.file import FilePrices
from scheduler.adapters.probes.folder import ProbeFolder
from scheduler.config import Home, Settings
from scheduler.ports import MeasurementShelf
from trimtab.files import write_atomically
from trimtab.fingerprint import node_facts
from trimtab.ids import JobId
from trimtab.inventory import DeviceKind, DeviceType, Inventory, Pool, ProbeReport
from trimtab.jobspec import JobSpec
from trimtab.measurement import Multiplier, StepMeasurement
from trimtab.plan import Candidate, Plan, PlanningProblem, PlanRequest
from trimtab.prices import PriceBook
from trimtab.processes import boot_id
from trimtab.spec import MeasuredSteps

if TYPE_CHECKING:
    from planner.advice import Advice, SplitAdvice, TradePoint
    from planner.export import Export
    from scheduler.adapters.devices.own import Change, Entries
    from scheduler.adapters.local.machine import LocalMachine
    from scheduler.service.control import ControlPlane

    Exported: TypeAlias = Export
    """What ``export_here`` gives, for those who may not import the planner."""
    Advised: TypeAlias = Advice
    """What ``advise_here`` gives, and its parts."""
    AdvisedSplit: TypeAlias = SplitAdvice
    AdvisedPoint: TypeAlias = TradePoint

_KEY_BYTES = 32


# ------------------------------------------------------------------------------------------------ without a control process


def plan_here(problem: PlanningProblem) -> Plan:
    """Plan in this process. Raises SolverError."""
    from planner.api import plan

    return plan(problem, clock=time.monotonic)


def estimate_here(
    spec: JobSpec, inventory: Inventory, probes: Sequence[ProbeReport], *, measurements: Sequence[StepMeasurement] = ()
) -> tuple[Candidate, ...]:
    """Every candidate of a job, in this process."""
    from planner.api import estimate

    return estimate(spec, inventory, probes, measurements=measurements)


def measured_runs(settings: Settings) -> MeasurementShelf:
    """What runs measured, kept in the state folder."""
    return MeasurementFile(settings.home.calibrations)


def multipliers_here(settings: Settings, measurements: Sequence[StepMeasurement], *, now: datetime) -> tuple[Multiplier, ...]:
    """What these runs make of predictions on this machine and on the device types of the catalogue."""
    from scheduler.adapters.planner.measured import multipliers

    return multipliers(measurements, device_entries(settings, now=now), local_probes(settings), now=now)


def measure_here(settings: Settings, steps: MeasuredSteps, *, now: datetime) -> StepMeasurement:
    """The measurement that an entry of a file is: its steps against what is predicted for it now, before any calibration.

    Raises SpecError, with paths from the entry on, where it cannot be predicted.
    """
    from scheduler.adapters.planner.measured import measure

    return measure(steps, device_entries(settings, now=now), local_probes(settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOrder:
    """What is to be exported for ``target``: the candidate of a training job, with the job as its file says it.

    ``device_types`` are names that target ``trimtab`` is fixed to; ranks meet at ``main_address``:``main_port``.
    """

    target: str
    spec: JobSpec
    candidate: Candidate
    job: Mapping[str, Any]
    device_kind: DeviceKind
    device_types: tuple[str, ...]
    main_address: str
    main_port: int
    script: str


def export_here(order: ExportOrder) -> Exported:
    """Write a plan for another trainer, in this process. Raises SpecError naming what the target cannot express."""
    from planner.export import ExportCase, ExportTarget, export

    spec, candidate = order.spec, order.candidate
    if spec.model is None or spec.train is None or candidate.strategy is None:
        raise ValueError("only a training job has a strategy")
    case = ExportCase(
        name=spec.name,
        model=spec.model,
        train=spec.train,
        strategy=candidate.strategy,
        shape=candidate.shape,
        device_kind=order.device_kind,
        main_address=order.main_address,
        main_port=order.main_port,
        script=order.script,
        job=order.job,
        types=order.device_types,
    )
    return export(case, ExportTarget(order.target))


def is_within_limits(spec: JobSpec, candidate: Candidate) -> bool:
    """Whether a candidate that fits breaks no limit of its job (cost, hours, rate, deadline)."""
    from planner.candidates.limits import violations

    job = JobId("job_limits")
    return not violations(PlanRequest(unit_id=candidate.unit_id, job_id=job, spec=spec), candidate)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceOrder:
    """What batch advice is wanted for; see ``planner.advice.AdviceQuestion``. ``price_source`` says who names the price."""

    spec: JobSpec
    device_type: DeviceType
    pool: Pool
    num_devices: int
    min_devices: int = 1
    exactly: bool = False
    usd_per_device_hour: float | None = None
    price_source: str = ""
    probe: ProbeReport | None = None
    data_samples: float | None = None
    noise_samples: float | None = None


def advise_here(order: AdviceOrder) -> Advised:
    """Batch advice, in this process. Raises SpecError for figures that are wrong, InfeasibleError where nothing fits."""
    from planner.advice import AdviceQuestion, Rate, advise

    price = order.usd_per_device_hour
    question = AdviceQuestion(
        spec=order.spec,
        device_type=order.device_type,
        pool=order.pool,
        num_devices=order.num_devices,
        min_devices=order.min_devices,
        exactly=order.exactly,
        rate=None if price is None else Rate(usd_per_device_hour=price, source=order.price_source),
        probe=order.probe,
        data_samples=order.data_samples,
        noise_samples=order.noise_samples,
    )
    return advise(question)


def device_entries(settings: Settings, *, now: datetime) -> Entries:
    """The catalogue with the user's own device types. Raises SpecError with every problem of the user's file."""
    from scheduler.adapters.devices.own import all_entries

    return all_entries(device_file(settings), now=now)


def device_catalogue(settings: Settings, *, now: datetime) -> Mapping[str, DeviceType]:
    """Device types that are known without being described in an inventory, by their names and other spellings."""
    from scheduler.adapters.devices.own import types_by_spelling

    return types_by_spelling(device_entries(settings, now=now))


def named_device(settings: Settings, spelled: str, *, now: datetime) -> DeviceType:
    """The device type of any spelling of its name. Raises SpecError with the nearest name for an unknown one."""
    from scheduler.adapters.devices.own import resolver

    found = device_entries(settings, now=now)
    return found[resolver(lambda: found)(spelled)].device_type


def device_changes(settings: Settings, *, now: datetime) -> tuple[Change, ...]:
    """The figures of device types that the user's file states."""
    from scheduler.adapters.devices.own import changes

    return changes(device_entries(settings, now=now))


def price_book(settings: Settings, *, now: datetime) -> PriceBook:
    """The user's prices of device types, before the bundled ones. Raises SpecError with every problem of the user's file."""
    from scheduler.adapters.devices.own import price_book as with_bundled

    return with_bundled(_prices(settings).refresh(now).devices)


def device_file(settings: Settings) -> Path | None:
    """The user's file of device types: the one that was named, else the one of the state folder, if it is there."""
    return settings.devices or (settings.home.devices if settings.home.devices.exists() else None)


def price_file(settings: Settings) -> Path:
    """The user's file of prices: the one that was named, else the one of the state folder, which need not be there."""
    return settings.prices or settings.home.prices


def local_machine(settings: Settings) -> LocalMachine:
    """This machine, with its probe reports."""
    from scheduler.adapters.local import nvidia
    from scheduler.adapters.local.machine import LocalMachine

    return LocalMachine(
        cpu_devices=settings.cpu_devices,
        reports=ProbeFolder(settings.home.probes).reports,
        fingerprint=node_facts().fingerprint(),
        gpus=lambda: nvidia.look(known=lambda: device_entries(settings, now=datetime.now(UTC))),
    )


def local_inventory(settings: Settings, *, now: datetime) -> Inventory:
    """The devices of this machine as they are now, with the user's prices. Read-only."""
    found = local_machine(settings).inventory(now)
    return replace(found, offers=tuple(_prices(settings).offers(now, found)))


def _prices(settings: Settings) -> FilePrices:
    def name_of(spelled: str) -> str:
        from scheduler.adapters.devices.own import resolver

        return resolver(lambda: device_entries(settings, now=datetime.now(UTC)))(spelled)

    return FilePrices(price_file(settings), resolve=name_of)


def local_probes(settings: Settings) -> tuple[ProbeReport, ...]:
    """The probe reports that are kept."""
    return tuple(ProbeFolder(settings.home.probes).reports())


def runtime_python(settings: Settings) -> str:
    """The interpreter of our own workers: it needs torch."""
    return settings.runtime_python or sys.executable


# ------------------------------------------------------------------------------------------------------ the control process


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlBundle:
    """A control plane with its adapters. ``metrics`` is the Prometheus text."""

    plane: ControlPlane
    metrics: Callable[[], bytes]
    start: Callable[[], None]
    close: Callable[[], None]


def build_control(settings: Settings, *, version: str) -> ControlBundle:
    """The control plane of this machine: SQLite, local executor, agents on a unix socket. The caller holds the home's lock.

    ``start`` opens the agents' gateway and runs the loops; ``close`` ends them in the opposite order. Running attempts go on.
    """
    from scheduler.adapters.local.artifacts import FolderArtifacts
    from scheduler.adapters.local.executor import LocalExecutor
    from scheduler.adapters.local.gateway import UnixGateway
    from scheduler.adapters.local.logs import FolderLogs
    from scheduler.adapters.planner.process import ProcessPlanner
    from scheduler.adapters.store.sqlite import SqliteStore
    from scheduler.adapters.telemetry.prometheus import PrometheusTelemetry
    from scheduler.adapters.time.clocks import SystemClock
    from scheduler.service.control import ControlPlane
    from scheduler.service.wiring import ControlPorts, ControlSettings

    home = settings.home
    telemetry = PrometheusTelemetry()
    gateway = UnixGateway(home.agents_socket)
    with ExitStack() as opened:
        store = SqliteStore(home.store)
        opened.callback(store.close)
        executor = LocalExecutor(home, local_machine(settings))
        opened.callback(executor.close)
        planner = ProcessPlanner()
        opened.callback(planner.close)
        ports = ControlPorts(
            store=store,
            executor=executor,
            planner=planner,
            prices=_prices(settings),
            logs=FolderLogs(home),
            artifacts=FolderArtifacts(home),
            probes=ProbeFolder(home.probes),
            measurements=MeasurementFile(home.calibrations),
            clock=SystemClock(),
            telemetry=telemetry,
            random_bytes=secrets.token_bytes,
        )
        plane = ControlPlane(
            ports,
            ControlSettings(
                home=str(home.path),
                address=gateway.address,
                holder=f"{socket.gethostname()}/{boot_id()}/{os.getpid()}",
                credential_key=_credential_key(home),
                runtime_python=runtime_python(settings),
                version=version,
                store_name=f"sqlite {home.store}",
                pid=os.getpid(),
                plan_time_limit_s=settings.plan_seconds,
                warnings=_warnings(),
            ),
        )
        closing = opened.pop_all()

    def start() -> None:
        gateway.serve(plane)
        plane.start()

    def close() -> None:
        closing.callback(gateway.close)
        closing.callback(plane.close)
        closing.close()

    return ControlBundle(plane=plane, metrics=telemetry.render, start=start, close=close)


def _credential_key(home: Home) -> bytes:
    """The secret that agents' credentials are made from; made once, kept, readable by the owner alone."""
    path = home.path / "credential.key"
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) < _KEY_BYTES:
        key = secrets.token_bytes(_KEY_BYTES)
        write_atomically(path, key)
    return key


def _warnings() -> tuple[str, ...]:
    return ("it runs as root, and so do its jobs",) if os.geteuid() == 0 else ()
