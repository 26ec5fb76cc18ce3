"""The planner's question and answer: problem, candidates, rejections, assignments, plan."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from trimtab.estimate import Constant, Estimate, Origin
from trimtab.ids import AttemptRef, JobId, NodeId, OfferId, PlanId, PoolId, UnitId
from trimtab.inventory import Inventory, ProbeReport, Shape
from trimtab.job import DeviceRef
from trimtab.jobspec import JobSpec
from trimtab.measurement import StepMeasurement
from trimtab.strategy import Strategy


class FitVerdict(StrEnum):
    """Whether a rank fits its device; TIGHT is within the memory model's own error of capacity."""

    FITS = "fits"
    TIGHT = "tight"
    DOES_NOT_FIT = "does-not-fit"


class RejectionReason(StrEnum):
    """Why a candidate was not chosen. ILLEGAL names a legality rule in ``rule``."""

    ILLEGAL = "illegal"
    DOES_NOT_FIT = "does-not-fit"
    OVER_COST = "over-max-cost"
    OVER_TIME = "over-max-hours"
    OVER_RATE = "over-max-usd-per-hour"
    MISSES_DEADLINE = "misses-deadline"
    NOT_REQUESTED = "not-requested"
    DOMINATED = "dominated"
    WORSE = "worse"
    NO_CAPACITY = "no-capacity"


class SolveStatus(StrEnum):
    """What is known of the answer. OPTIMAL is said only when bound and objective prove it."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    TIME_LIMIT = "time-limit"
    ERROR = "error"


_NO_HOLES = Estimate(value=0.0, low=0.0, high=0.0, origin=Origin.ASSUMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMemory:
    """Predicted bytes of the ranks of one pipeline stage, part by part, worst micro-batch.

    ``total`` carries the interval; ``resident_bytes`` is what the process holds beside tensors (interpreter, libraries);
    ``allocator_bytes`` what its allocator holds in holes between tensors, too small for the next one.
    """

    stage: int
    parameters_bytes: float
    gradients_bytes: float
    optimizer_bytes: float
    activations_bytes: float
    logits_bytes: float
    communication_bytes: float
    transient_bytes: float
    total_bytes: Estimate
    resident_bytes: float = 0.0
    allocator_bytes: Estimate = _NO_HOLES


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePart:
    """One part of the predicted step time, in seconds (``compute``, ``tensor communication``, ``bubble`` ...)."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A job on an offer in a shape with a strategy, with predicted time, memory and cost.

    ``time_parts`` add up to a step, ``run_parts`` to what the run takes beside its steps. ``input_s`` is what reading the samples
    of a step takes, beside the step before it; ``restart_read_s`` what reading the last checkpoint adds to a restart.
    ``raw_step_s`` is the step before a calibration was applied (None: none was): runs are measured against it.
    """

    unit_id: UnitId
    offer_id: OfferId
    pool_id: PoolId
    shape: Shape
    strategy: Strategy | None
    step_s: Estimate
    total_s: Estimate
    cost_usd: Estimate
    price_usd_per_hour: float
    memory: tuple[RankMemory, ...] = ()
    fit: FitVerdict = FitVerdict.FITS
    time_parts: tuple[TimePart, ...] = ()
    run_parts: tuple[TimePart, ...] = ()
    input_s: float = 0.0
    restart_read_s: float = 0.0
    raw_step_s: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One refused candidate, or ``count`` alike ones, and why: a typed reason, the rule's name and a sentence with numbers."""

    unit_id: UnitId
    reason: RejectionReason
    rule: str
    detail: str
    strategy: Strategy | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which devices the ranks of an assignment get, in rank order."""

    devices: tuple[DeviceRef, ...]

    @property
    def node_ids(self) -> tuple[NodeId, ...]:
        """Nodes in order of first use."""
        return tuple(dict.fromkeys(device.node_id for device in self.devices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A unit gets a candidate on certain devices. ``alternatives`` are the next best, best first."""

    unit_id: UnitId
    candidate: Candidate
    placement: Placement
    alternatives: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """A unit that the plan leaves out: the typed reason, the sentence, and the smallest change that would let it run."""

    unit_id: UnitId
    reason: RejectionReason
    detail: str
    smallest_change: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Devices kept for a blocked gang until ``until``."""

    unit_id: UnitId
    devices: tuple[DeviceRef, ...]
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectivePart:
    """One term of the objective in $/h (lower is better)."""

    name: str
    usd_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveReport:
    """What the solver really proved. ``gap_frac`` = (objective - bound) / max(|objective|, 1e-9); infinite without a bound."""

    status: SolveStatus
    solver: str
    objective_usd_per_hour: float
    bound_usd_per_hour: float
    gap_frac: float
    seconds: float
    num_columns: int
    num_candidates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """One unit to plan for. ``held`` are the devices that it has now; ``fixed`` units keep them."""

    unit_id: UnitId
    job_id: JobId
    spec: JobSpec
    held: tuple[DeviceRef, ...] = ()
    live_attempt: AttemptRef | None = None
    strategy: Strategy | None = None
    fixed: bool = False
    waiting_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningProblem:
    """Everything that the planner may know. ``basis_version`` is the store's newest event number; ``now`` is aware.

    ``measurements`` are measured steps of earlier runs, which calibrate what is predicted.
    """

    basis_version: int
    now: datetime
    inventory: Inventory
    requests: tuple[PlanRequest, ...]
    probes: tuple[ProbeReport, ...] = ()
    measurements: tuple[StepMeasurement, ...] = ()
    time_limit_s: float = 10.0
    expires_after_s: float = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A proposal, made from ``basis_version`` and good until ``expires_at``."""

    id: PlanId
    basis_version: int
    made_at: datetime
    expires_at: datetime
    assignments: tuple[Assignment, ...]
    unplaced: tuple[Unplaced, ...]
    rejections: tuple[Rejection, ...]
    objective: tuple[ObjectivePart, ...]
    solve: SolveReport
    constants: tuple[Constant, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    warnings: tuple[str, ...] = ()

    def assignment(self, unit_id: UnitId) -> Assignment | None:
        """The assignment of that unit, if it has one."""
        return next((a for a in self.assignments if a.unit_id == unit_id), None)
