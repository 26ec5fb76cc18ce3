"""The life of an attempt and of a unit: states, events and the two tables that own every move.

The diagrams in ``docs/lifecycle.md`` are generated from these tables. Nothing else in the code may decide a next state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from trimtab.jobspec import RetryPolicy


class AttemptState(StrEnum):
    """Where an attempt is. Devices are free only in RELEASED."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    UNKNOWN = "UNKNOWN"
    RELEASED = "RELEASED"


class AttemptEvent(StrEnum):
    """What can happen to an attempt."""

    ASSIGNED = "Assigned"
    READY = "Ready"
    STOP_REQUESTED = "StopRequested"
    EXITED = "Exited"
    LOST_SIGHT = "LostSight"
    SEEN_AGAIN = "SeenAgain"
    PROVEN_DEAD = "ProvenDead"


class ReleaseReason(StrEnum):
    """Why an attempt was released. STOPPED: it ended because it was asked to."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"


class FailureKind(StrEnum):
    """Cause of a failure; each has its own place in the retry policy."""

    EXIT_CODE = "exit-code"
    KILLED = "killed"
    OUT_OF_MEMORY = "out-of-memory"
    START = "start"
    STALLED = "stalled"
    CHECKPOINT = "checkpoint"
    LOST = "lost"


class Intent(StrEnum):
    """What the owner wants of a job."""

    RUN = "RUN"
    SUSPEND = "SUSPEND"
    CANCEL = "CANCEL"


class UnitState(StrEnum):
    """Where a unit is; the middle three follow its live attempt."""

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    SUSPENDED = "SUSPENDED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class UnitEvent(StrEnum):
    """What can happen to a unit that has no live attempt."""

    ASSIGNED = "Assigned"
    SUSPENDED = "IntentSuspend"
    RESUMED = "IntentRun"
    CANCELLED = "IntentCancel"
    HOPELESS = "Hopeless"


class QueueReason(StrEnum):
    """Why a unit is queued."""

    WAITING = "waiting"
    PLANNING = "planning"
    NO_CAPACITY = "no-capacity"
    QUOTA = "quota"
    DEPENDENCY = "dependency"
    BACK_OFF = "back-off"
    BUDGET = "budget"


class EndReason(StrEnum):
    """Why a unit ended in FAILED."""

    FAILURES = "too-many-failures"
    LOSSES = "too-many-losses"
    DEADLINE = "deadline"
    BUDGET = "budget"
    INFEASIBLE = "cannot-ever-fit"
    DEPENDENCY = "dependency-failed"
    QUARANTINED = "quarantined"


class InvalidMove(AssertionError):
    """A move that the tables do not have: a bug, never an expected outcome."""


_S, _E = AttemptState, AttemptEvent
# UNKNOWN -> SEEN_AGAIN is resolved by ``seen_again``: back to the state before, or STOPPING if a stop was asked.
ATTEMPT_MOVES: Mapping[tuple[AttemptState | None, AttemptEvent], AttemptState] = MappingProxyType(
    {
        (None, _E.ASSIGNED): _S.STARTING,
        (_S.STARTING, _E.READY): _S.RUNNING,
        (_S.STARTING, _E.STOP_REQUESTED): _S.STOPPING,
        (_S.RUNNING, _E.STOP_REQUESTED): _S.STOPPING,
        (_S.STARTING, _E.EXITED): _S.RELEASED,
        (_S.RUNNING, _E.EXITED): _S.RELEASED,
        (_S.STOPPING, _E.EXITED): _S.RELEASED,
        (_S.STARTING, _E.LOST_SIGHT): _S.UNKNOWN,
        (_S.RUNNING, _E.LOST_SIGHT): _S.UNKNOWN,
        (_S.STOPPING, _E.LOST_SIGHT): _S.UNKNOWN,
        (_S.UNKNOWN, _E.PROVEN_DEAD): _S.RELEASED,
    }
)

_U, _V = UnitState, UnitEvent
UNIT_MOVES: Mapping[tuple[UnitState, UnitEvent], UnitState] = MappingProxyType(
    {
        (_U.QUEUED, _V.ASSIGNED): _U.STARTING,
        (_U.QUEUED, _V.SUSPENDED): _U.SUSPENDED,
        (_U.QUEUED, _V.CANCELLED): _U.CANCELLED,
        (_U.QUEUED, _V.HOPELESS): _U.FAILED,
        (_U.SUSPENDED, _V.RESUMED): _U.QUEUED,
        (_U.SUSPENDED, _V.CANCELLED): _U.CANCELLED,
        (_U.SUSPENDED, _V.HOPELESS): _U.FAILED,
    }
)

QUARANTINE: tuple[UnitState, EndReason] = (UnitState.FAILED, EndReason.QUARANTINED)
"""Where a unit goes from any state when its invariants broke. Its attempt lives on in the table until its death is proven."""

UNIT_ENDS = frozenset({UnitState.SUCCEEDED, UnitState.FAILED, UnitState.CANCELLED})
UNIT_LIVE = frozenset({UnitState.STARTING, UnitState.RUNNING, UnitState.STOPPING})


def move_attempt(state: AttemptState | None, event: AttemptEvent) -> AttemptState:
    """The next state of an attempt. Raises InvalidMove where the table has none (SEEN_AGAIN has its own function)."""
    try:
        return ATTEMPT_MOVES[state, event]
    except KeyError:
        raise InvalidMove(f"attempt in {state} cannot take {event}") from None


def seen_again(*, before: AttemptState, stop_requested: bool) -> AttemptState:
    """UNKNOWN + SeenAgain: the state before sight was lost, or STOPPING if a stop was asked in the meantime."""
    if before not in (AttemptState.STARTING, AttemptState.RUNNING, AttemptState.STOPPING):
        raise InvalidMove(f"sight cannot have been lost in {before}")
    return AttemptState.STOPPING if stop_requested else before


def move_unit(state: UnitState, event: UnitEvent) -> UnitState:
    """The next state of a unit without a live attempt. Raises InvalidMove where the table has none."""
    try:
        return UNIT_MOVES[state, event]
    except KeyError:
        raise InvalidMove(f"unit in {state} cannot take {event}") from None


def follow(attempt: AttemptState) -> UnitState | None:
    """The state of a unit whose live attempt is in that state; None keeps the unit's state (sight was lost: nothing is known)."""
    return {
        AttemptState.STARTING: UnitState.STARTING,
        AttemptState.RUNNING: UnitState.RUNNING,
        AttemptState.STOPPING: UnitState.STOPPING,
    }.get(attempt)


def after_release(
    reason: ReleaseReason, intent: Intent, *, num_failures: int, num_losses: int, retry: RetryPolicy
) -> tuple[UnitState, EndReason | None]:
    """Where a unit goes when its attempt is released; the counts include the one just released.

    completed -> SUCCEEDED; intent CANCEL -> CANCELLED; SUSPEND -> SUSPENDED; stopped -> QUEUED; failed or lost -> QUEUED while
    the
    retry policy of that kind allows, else FAILED with the reason.
    """
    if reason is ReleaseReason.COMPLETED:
        return UnitState.SUCCEEDED, None
    if intent is Intent.CANCEL:
        return UnitState.CANCELLED, None
    if reason is ReleaseReason.FAILED and num_failures > retry.max_failures:
        return UnitState.FAILED, EndReason.FAILURES
    if reason is ReleaseReason.LOST and num_losses > retry.max_losses:
        return UnitState.FAILED, EndReason.LOSSES
    if intent is Intent.SUSPEND:
        return UnitState.SUSPENDED, None
    return UnitState.QUEUED, None


def backoff_s(retry: RetryPolicy, num_tries: int) -> float:
    """Seconds to wait after the ``num_tries``-th failure in a row: doubles each time up to the policy's maximum."""
    if num_tries <= 0:
        return 0.0
    return float(min(retry.max_backoff_s, retry.backoff_s * 2.0 ** min(num_tries - 1, 30)))
