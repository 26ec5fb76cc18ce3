"""How an attempt ended: one pure function from what was seen to the ExitNote."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from trimtab.jobspec import JobKind
from trimtab.lifecycle import FailureKind, ReleaseReason
from trimtab.orders import EXIT_CHECKPOINT, EXIT_OUT_OF_MEMORY, EXIT_STOPPED, ExitNote


@dataclass(frozen=True, slots=True, kw_only=True)
class RankExit:
    """How one rank ended: its code (negative: the signal), whether the agent killed it, the last line of its log."""

    rank: int
    code: int
    killed_by_agent: bool = False
    last_line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """All that is known when no rank is left. ``num_oom_kills``: processes that the kernel killed for memory meanwhile."""

    kind: JobKind
    exits: tuple[RankExit, ...]
    first_failed: RankExit | None = None
    stop_asked: bool = False
    fenced: bool = False
    stalled_s: float | None = None
    num_oom_kills: int = 0


def judge(ending: Ending) -> ExitNote:
    """The note.

    ``first_failed`` is a failure from before anybody asked for a stop. What ends after it was asked to is STOPPED by any code,
    but our own worker that had finished (code 0): a user's program that ends with 0 on SIGTERM has not.
    """
    if ending.fenced:
        return ExitNote(reason=ReleaseReason.STOPPED, detail="fenced: another attempt is the current one; all ranks were killed")
    codes = {exit.code for exit in ending.exits}
    if codes == {0} and (ending.kind is JobKind.TRAIN or not ending.stop_asked):
        return ExitNote(reason=ReleaseReason.COMPLETED, exit_code=0)
    if ending.stalled_s is not None:
        detail = f"no sign of progress for {ending.stalled_s:.0f} s; all ranks were killed"
        return ExitNote(reason=ReleaseReason.FAILED, failure=FailureKind.STALLED, detail=detail)
    first = ending.first_failed
    if first is None:
        return ExitNote(reason=ReleaseReason.STOPPED, detail=_stop_detail(ending))
    return ExitNote(
        reason=ReleaseReason.FAILED,
        failure=_failure(ending, first),
        rank=first.rank,
        exit_code=first.code,
        detail=_failure_detail(ending, first),
    )


def describe(exit: RankExit) -> str:
    """How a rank ended, for a person."""
    if exit.code >= 0:
        return f"rank {exit.rank} exited with code {exit.code}"
    try:
        name = signal.Signals(-exit.code).name
    except ValueError:
        name = f"signal {-exit.code}"
    return f"rank {exit.rank} was killed by {name}" + (" of its agent" if exit.killed_by_agent else "")


def _failure(ending: Ending, first: RankExit) -> FailureKind:
    if first.code == -signal.SIGKILL and not first.killed_by_agent and ending.num_oom_kills > 0:
        return FailureKind.OUT_OF_MEMORY
    if first.code < 0:
        return FailureKind.KILLED
    if ending.kind is JobKind.TRAIN and first.code == EXIT_OUT_OF_MEMORY:
        return FailureKind.OUT_OF_MEMORY
    if ending.kind is JobKind.TRAIN and first.code == EXIT_CHECKPOINT:
        return FailureKind.CHECKPOINT
    return FailureKind.EXIT_CODE


def _failure_detail(ending: Ending, first: RankExit) -> str:
    parts = [describe(first)]
    if _failure(ending, first) is FailureKind.OUT_OF_MEMORY and first.code < 0:
        parts.append(f"the kernel killed {ending.num_oom_kills} processes for want of memory meanwhile")
    if first.last_line:
        parts.append(f"its last line: {first.last_line}")
    return "; ".join(parts)


def _stop_detail(ending: Ending) -> str:
    killed = [exit for exit in ending.exits if exit.killed_by_agent]
    if killed:
        return f"asked to stop; {len(killed)} of {len(ending.exits)} ranks did not end within the grace and were killed"
    if ending.kind is JobKind.TRAIN and {exit.code for exit in ending.exits} == {EXIT_STOPPED}:
        return "stopped after a checkpoint"
    others = [describe(exit) for exit in ending.exits if exit.code not in (0, EXIT_STOPPED, -signal.SIGTERM)]
    return "; ".join(["asked to stop", *others[:3]])
