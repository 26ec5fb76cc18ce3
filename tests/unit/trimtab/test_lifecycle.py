"""The two life tables: what they allow, and that nothing else is allowed."""

from __future__ import annotations

import itertools

import pytest

from trimtab.jobspec import RetryPolicy
from trimtab.lifecycle import (
    ATTEMPT_MOVES,
    UNIT_ENDS,
    UNIT_MOVES,
    AttemptEvent,
    AttemptState,
    EndReason,
    Intent,
    InvalidMove,
    ReleaseReason,
    UnitEvent,
    UnitState,
    after_release,
    backoff_s,
    follow,
    move_attempt,
    move_unit,
    seen_again,
)

RETRY = RetryPolicy(max_failures=2, max_losses=1, backoff_s=2.0, max_backoff_s=10.0)


def test_every_pair_is_either_in_the_table_or_refused() -> None:
    for state, event in itertools.product([None, *AttemptState], AttemptEvent):
        if (state, event) in ATTEMPT_MOVES:
            assert move_attempt(state, event) is ATTEMPT_MOVES[state, event]
        else:
            with pytest.raises(InvalidMove):
                move_attempt(state, event)
    for unit, happened in itertools.product(UnitState, UnitEvent):
        if (unit, happened) in UNIT_MOVES:
            assert move_unit(unit, happened) is UNIT_MOVES[unit, happened]
        else:
            with pytest.raises(InvalidMove):
                move_unit(unit, happened)


def test_released_and_the_ends_absorb() -> None:
    assert not [pair for pair in ATTEMPT_MOVES if pair[0] is AttemptState.RELEASED]
    assert not [pair for pair in UNIT_MOVES if pair[0] in UNIT_ENDS]


def test_sight_lost_needs_proof_before_release() -> None:
    leaving_unknown = {event: to for (state, event), to in ATTEMPT_MOVES.items() if state is AttemptState.UNKNOWN}
    assert leaving_unknown == {AttemptEvent.PROVEN_DEAD: AttemptState.RELEASED}


@pytest.mark.parametrize("before", [AttemptState.STARTING, AttemptState.RUNNING, AttemptState.STOPPING])
def test_seen_again_returns_to_the_state_before_unless_a_stop_was_asked(before: AttemptState) -> None:
    assert seen_again(before=before, stop_requested=False) is before
    assert seen_again(before=before, stop_requested=True) is AttemptState.STOPPING


def test_seen_again_from_an_impossible_state_is_a_bug() -> None:
    with pytest.raises(InvalidMove):
        seen_again(before=AttemptState.RELEASED, stop_requested=False)


@pytest.mark.parametrize(
    ("reason", "intent", "failures", "losses", "expected"),
    [
        (ReleaseReason.COMPLETED, Intent.RUN, 0, 0, (UnitState.SUCCEEDED, None)),
        (ReleaseReason.COMPLETED, Intent.CANCEL, 0, 0, (UnitState.SUCCEEDED, None)),
        (ReleaseReason.STOPPED, Intent.RUN, 0, 0, (UnitState.QUEUED, None)),
        (ReleaseReason.STOPPED, Intent.SUSPEND, 0, 0, (UnitState.SUSPENDED, None)),
        (ReleaseReason.STOPPED, Intent.CANCEL, 0, 0, (UnitState.CANCELLED, None)),
        (ReleaseReason.FAILED, Intent.RUN, 2, 0, (UnitState.QUEUED, None)),
        (ReleaseReason.FAILED, Intent.RUN, 3, 0, (UnitState.FAILED, EndReason.FAILURES)),
        (ReleaseReason.FAILED, Intent.CANCEL, 3, 0, (UnitState.CANCELLED, None)),
        (ReleaseReason.FAILED, Intent.SUSPEND, 1, 0, (UnitState.SUSPENDED, None)),
        (ReleaseReason.LOST, Intent.RUN, 9, 1, (UnitState.QUEUED, None)),
        (ReleaseReason.LOST, Intent.RUN, 0, 2, (UnitState.FAILED, EndReason.LOSSES)),
    ],
)
def test_after_release(
    reason: ReleaseReason, intent: Intent, failures: int, losses: int, expected: tuple[UnitState, EndReason | None]
) -> None:
    assert after_release(reason, intent, num_failures=failures, num_losses=losses, retry=RETRY) == expected


def test_a_unit_follows_its_attempt_and_keeps_its_state_when_sight_is_lost() -> None:
    assert follow(AttemptState.RUNNING) is UnitState.RUNNING
    assert follow(AttemptState.UNKNOWN) is None


def test_backoff_doubles_up_to_its_limit() -> None:
    assert [backoff_s(RETRY, n) for n in range(6)] == [0.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert backoff_s(RETRY, 10_000) == 10.0
