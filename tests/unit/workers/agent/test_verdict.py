"""How an attempt ended: the whole table."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.jobspec import JobKind
from trimtab.lifecycle import FailureKind, ReleaseReason
from trimtab.orders import EXIT_CHECKPOINT, EXIT_OUT_OF_MEMORY, EXIT_STOPPED
from workers.agent.verdict import Ending, RankExit, describe, judge

TRAIN, COMMAND = JobKind.TRAIN, JobKind.COMMAND
KILL, TERM = -signal.SIGKILL, -signal.SIGTERM
DONE, STOP, FAIL = ReleaseReason.COMPLETED, ReleaseReason.STOPPED, ReleaseReason.FAILED


def ending(kind: JobKind, *codes: int, failed: int | None = None, **more: bool | int | float) -> Ending:
    exits = tuple(RankExit(rank=rank, code=code) for rank, code in enumerate(codes))
    return replace(
        Ending(kind=kind, exits=exits, first_failed=None if failed is None else exits[failed]),
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("found", "reason", "failure"),
    [
        (ending(TRAIN, 0, 0), DONE, None),
        (ending(COMMAND, 0, 0), DONE, None),
        (ending(TRAIN, 0, 0, stop_asked=True), DONE, None),
        (ending(COMMAND, 0, 0, stop_asked=True), STOP, None),
        (ending(TRAIN, EXIT_STOPPED, EXIT_STOPPED, stop_asked=True), STOP, None),
        (ending(TRAIN, EXIT_STOPPED, KILL, stop_asked=True), STOP, None),
        (ending(TRAIN, EXIT_OUT_OF_MEMORY, stop_asked=True), STOP, None),
        (ending(COMMAND, TERM, 3, stop_asked=True), STOP, None),
        (ending(COMMAND, 3, TERM, failed=0, stop_asked=True), FAIL, FailureKind.EXIT_CODE),
        (ending(COMMAND, EXIT_STOPPED, failed=0), FAIL, FailureKind.EXIT_CODE),
        (ending(COMMAND, EXIT_OUT_OF_MEMORY, failed=0), FAIL, FailureKind.EXIT_CODE),
        (ending(TRAIN, EXIT_OUT_OF_MEMORY, TERM, failed=0), FAIL, FailureKind.OUT_OF_MEMORY),
        (ending(TRAIN, TERM, EXIT_CHECKPOINT, failed=1), FAIL, FailureKind.CHECKPOINT),
        (ending(TRAIN, 1, failed=0), FAIL, FailureKind.EXIT_CODE),
        (ending(TRAIN, KILL, failed=0), FAIL, FailureKind.KILLED),
        (ending(TRAIN, KILL, failed=0, num_oom_kills=1), FAIL, FailureKind.OUT_OF_MEMORY),
        (ending(TRAIN, -signal.SIGSEGV, failed=0, num_oom_kills=1), FAIL, FailureKind.KILLED),
        (ending(TRAIN, KILL, KILL, failed=0, stalled_s=9.0), FAIL, FailureKind.STALLED),
        (ending(TRAIN, KILL, failed=0, fenced=True), STOP, None),
        (ending(TRAIN, 0, fenced=True), STOP, None),
    ],
)
def test_the_table(found: Ending, reason: ReleaseReason, failure: FailureKind | None) -> None:
    note = judge(found)
    assert (note.reason, note.failure) == (reason, failure)


def test_the_note_names_rank_code_signal_and_last_line() -> None:
    first = RankExit(rank=3, code=2, last_line="KeyError: 'x'")
    note = judge(Ending(kind=COMMAND, exits=(first,), first_failed=first))
    assert (note.rank, note.exit_code) == (3, 2)
    assert note.detail == "rank 3 exited with code 2; its last line: KeyError: 'x'"
    assert describe(RankExit(rank=0, code=-11)) == "rank 0 was killed by SIGSEGV"
    assert describe(RankExit(rank=0, code=-9, killed_by_agent=True)) == "rank 0 was killed by SIGKILL of its agent"
    assert describe(RankExit(rank=0, code=-64)) in ("rank 0 was killed by SIGRTMAX", "rank 0 was killed by signal 64")


@given(
    kind=st.sampled_from(JobKind),
    codes=st.lists(st.integers(-31, 80), min_size=1, max_size=4),
    failed=st.booleans(),
    stop_asked=st.booleans(),
    fenced=st.booleans(),
    num_oom_kills=st.integers(0, 2),
)
def test_a_failure_is_never_without_a_kind_and_an_end_never_complete_with_another_code(
    kind: JobKind, codes: list[int], failed: bool, stop_asked: bool, fenced: bool, num_oom_kills: int
) -> None:
    bad = [index for index, code in enumerate(codes) if code != 0]
    index = bad[0] if bad and (failed or not stop_asked) else None
    note = judge(ending(kind, *codes, failed=index, stop_asked=stop_asked, fenced=fenced, num_oom_kills=num_oom_kills))
    assert (note.failure is not None) == (note.reason is ReleaseReason.FAILED)
    if note.reason is ReleaseReason.COMPLETED:
        assert set(codes) == {0}
        assert not fenced
    if fenced:
        assert note.reason is ReleaseReason.STOPPED
