"""What crosses between scheduler and worker: orders downwards, reports upwards, and the calls of an agent.

All of it travels as JSON through ``trimtab.wire``. Version skew: a reader ignores unknown fields and refuses a missing one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from trimtab.estimate import Estimate
from trimtab.ids import AttemptRef, JobId
from trimtab.inventory import DeviceKind
from trimtab.job import DeviceRef
from trimtab.jobspec import JobSpec
from trimtab.lifecycle import FailureKind, ReleaseReason
from trimtab.plan import RankMemory
from trimtab.strategy import Strategy

ENV_ORDER_FILE = "TRIMTAB_ORDER_FILE"
ENV_ATTEMPT = "TRIMTAB_ATTEMPT"
ENV_REPORT_FD = "TRIMTAB_REPORT_FD"  # each rank writes JSON lines here: RankMessage
ENV_CONTROL_FD = "TRIMTAB_CONTROL_FD"  # rank 0 reads JSON lines here: RankCommand
ENV_CHECKPOINT_DIR = "TRIMTAB_CHECKPOINT_DIR"
ENV_RESUME_FROM = "TRIMTAB_RESUME_FROM"
ENV_PLAN_FILE = "TRIMTAB_PLAN_FILE"
ENV_ATTEMPT_DIR = "TRIMTAB_ATTEMPT_DIR"  # with ENV_ATTEMPT the mark that finds every process of an attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSlot:
    """The device of one rank: CPU cores to pin to, or the ordinal for the visible-devices variable."""

    rank: int
    local_rank: int
    device: DeviceRef
    kind: DeviceKind
    cores: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """Everything that an agent needs to run its part of one attempt.

    ``argv`` is the program of each rank; for a training job it is our own training worker and ``spec`` and ``strategy`` say
    what it
    trains. ``checkpoint_dir`` belongs to the job (all attempts), ``attempt_dir`` to this attempt (logs, order file).
    ``address`` is
    where the agent finds the gateway (``unix:/path`` or ``https://host:port``) and ``credential`` its secret for this attempt.
    """

    attempt: AttemptRef
    job_id: JobId
    spec: JobSpec
    strategy: Strategy | None
    argv: tuple[str, ...]
    working_dir: str
    environment: Mapping[str, str]
    slots: tuple[RankSlot, ...]
    attempt_dir: str
    checkpoint_dir: str
    address: str
    credential: str
    grace_s: float
    predicted_step_s: Estimate | None = None
    predicted_memory: tuple[RankMemory, ...] = ()
    stall_after_s: float = 600.0
    resume_from: str | None = None


class ReportKind(StrEnum):
    """What a report tells."""

    READY = "ready"
    HEARTBEAT = "heartbeat"
    PROGRESS = "progress"
    CHECKPOINT = "checkpoint"
    SUMMARY = "summary"
    EXITED = "exited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a training attempt is. ``step`` counts finished optimizer steps of the whole run; rates are of the last steps."""

    step: int
    num_steps: int
    loss: float
    tokens_per_s: float
    step_s: float
    num_samples: int
    phase: str = "train"
    peak_memory_bytes: tuple[int, ...] = ()
    resident_bytes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointNote:
    """A checkpoint that is complete and verified: its folder, step and the SHA-256 of its manifest."""

    path: str
    step: int
    manifest_sha256: str
    num_bytes: int
    save_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitNote:
    """How an attempt ended. ``rank`` is the first that failed, ``exit_code`` its code (negative: the signal)."""

    reason: ReleaseReason
    failure: FailureKind | None = None
    rank: int | None = None
    exit_code: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """One report of an agent. ``sequence`` rises by one within (attempt, node); a repeated one is ignored.

    Exactly the part named by ``kind`` is set; ``summary`` holds plain figures of a finished run (loss, throughput, scores).
    EXITED repeats the newest summary, and a checkpoint that could not be published before: it outlives the agent as a file.
    """

    attempt: AttemptRef
    sequence: int
    kind: ReportKind
    at: datetime
    progress: Progress | None = None
    checkpoint: CheckpointNote | None = None
    exit: ExitNote | None = None
    summary: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """An agent asks to own an attempt before it starts anything. ``agent`` is host, boot id, pid and start time of the agent."""

    attempt: AttemptRef
    agent: str


class ClaimVerdict(StrEnum):
    """Answer to a claim; REFUSED is final, the agent starts nothing and exits."""

    GRANTED = "granted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimReply:
    """``detail`` says why a claim was refused."""

    verdict: ClaimVerdict
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportReply:
    """Answer to a report: whether the attempt is still current (``fenced`` False) and whether it should stop or checkpoint
    now."""

    fenced: bool = False
    stop: bool = False
    grace_s: float = 0.0
    checkpoint_now: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRequest:
    """An agent asks to make a checkpoint the one to resume from."""

    attempt: AttemptRef
    note: CheckpointNote


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishReply:
    """Not ``accepted``: the attempt is fenced and its writer must not use the checkpoint."""

    accepted: bool


class RankMessageKind(StrEnum):
    """What a rank tells its agent."""

    READY = "ready"
    PROGRESS = "progress"
    CHECKPOINT = "checkpoint"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMessage:
    """One JSON line from a rank to its agent over the descriptor of ENV_REPORT_FD. Only rank 0 sends more than READY."""

    kind: RankMessageKind
    progress: Progress | None = None
    checkpoint: CheckpointNote | None = None
    summary: Mapping[str, float] = field(default_factory=dict)


class RankCommandKind(StrEnum):
    """What an agent asks of rank 0 of our own training worker (a user's program gets SIGTERM instead)."""

    STOP = "stop"
    CHECKPOINT = "checkpoint"
    PUBLISHED = "published"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCommand:
    """One JSON line from the agent to rank 0. PUBLISHED answers a CHECKPOINT message: not ``accepted`` means fenced, stop at
    once."""

    kind: RankCommandKind
    step: int = 0
    accepted: bool = True
    grace_s: float = 0.0


EXIT_STOPPED = 75
"""Exit code of a rank of our own worker that stopped because it was asked to, after a checkpoint (EX_TEMPFAIL)."""
EXIT_OUT_OF_MEMORY = 76
"""Exit code of a rank of our own worker that ran out of device or host memory."""
EXIT_CHECKPOINT = 77
"""Exit code of a rank of our own worker that found no usable checkpoint where it should resume from."""
