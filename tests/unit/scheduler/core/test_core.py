"""The pure core: guarded writes, moves, decisions, the checks of one assignment, and the invariants that find what is broken."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from scheduler.adapters.simulated.world import with_device_state
from scheduler.core import attempts, decide, jobs, reflect
from scheduler.core.invariants import Replay, check
from scheduler.core.orders import credential_digest, credential_for, credential_matches, slots_for
from scheduler.core.policy import Policy
from scheduler.core.recheck import recheck
from scheduler.core.records import EventDraft, Observation, Record, RecordKind, Sight, StoredEvent
from scheduler.core.rows import CommandAction, encode_row
from scheduler.core.snapshot import Snapshot, Write
from scheduler.core.write import WriteBuilder
from tests.support.kit import KEY, START, command_job, first_fit, inventory
from trimtab.ids import AttemptRef, JobId, UnitId
from trimtab.inventory import DeviceState
from trimtab.job import Attempt, Job, Unit
from trimtab.jobspec import CommandSpec, JobSpec, RetryPolicy
from trimtab.lifecycle import AttemptState, FailureKind, Intent, InvalidMove, ReleaseReason, UnitState
from trimtab.orders import ExitNote
from trimtab.plan import Plan, PlanningProblem, PlanRequest

JOB = JobId("job_1")
UNIT = UnitId("job_1.u0")
FIRST = AttemptRef(unit_id=UNIT, number=1)


def plan_for(spec: JobSpec, devices: int = 8) -> Plan:
    request = PlanRequest(unit_id=UNIT, job_id=JOB, spec=spec)
    return first_fit(PlanningProblem(basis_version=0, now=START, inventory=inventory(devices), requests=(request,)))


class Table:
    """A snapshot and the events that led to it."""

    def __init__(self, spec: JobSpec | None = None) -> None:
        self.spec = spec or command_job(devices=2)
        self.snapshot = Snapshot()
        self.events: list[StoredEvent] = []
        submission = jobs.Submission(job_id=JOB, spec=self.spec, spec_digest="d", submitted_by="ann")
        self.take(jobs.submit(self.snapshot, submission, now=START))

    def take(self, write: Write | None) -> None:
        assert write is not None
        for draft in write.events:
            self.events.append(StoredEvent(number=len(self.events) + 1, draft=draft))
        self.snapshot = self.snapshot.after(write, last_event=len(self.events))

    def builder(self, after_s: float = 0.0) -> WriteBuilder:
        return WriteBuilder(self.snapshot, now=START + timedelta(seconds=after_s))

    def assign(self, after_s: float = 0.0) -> AttemptRef:
        plan = plan_for(self.spec)
        write = self.builder(after_s)
        ref = attempts.assign(
            write,
            self.unit,
            plan.assignments[0],
            plan_id=plan.id,
            number=self.unit.attempt_number + 1,
            credential_digest=credential_digest(credential_for(KEY, FIRST)),
        )
        self.take(write.build())
        return ref

    def do(self, act: object, *arguments: object, after_s: float = 0.0, **more: object) -> None:
        write = self.builder(after_s)
        act(write, *arguments, **more)  # type: ignore[operator]
        self.take(write.build())

    def run(self) -> AttemptRef:
        ref = self.assign()
        self.do(attempts.started, ref)
        self.do(attempts.claimed, ref, "agent")
        self.do(attempts.ready, ref)
        return ref

    @property
    def job(self) -> Job:
        found = self.snapshot.job(JOB)
        assert found is not None
        return found

    @property
    def unit(self) -> Unit:
        found = self.snapshot.unit(UNIT)
        assert found is not None
        return found

    def attempt(self, ref: AttemptRef = FIRST) -> Attempt:
        found = self.snapshot.attempt(ref)
        assert found is not None
        return found

    def sound(self) -> None:
        replay = Replay()
        replay.take(self.events)
        assert [*check(self.snapshot), *replay.compare(self.snapshot)] == []


# -------------------------------------------------------------------------------------------------------------------- writes


def test_every_row_that_a_write_changes_is_guarded_by_the_version_it_was_read_at() -> None:
    table = Table()
    table.run()
    write = table.builder()
    attempts.exited(write, FIRST, ExitNote(reason=ReleaseReason.COMPLETED))
    made = write.build()
    guarded = {(guard.kind, guard.id): guard.version for guard in made.guards}
    for put in made.puts:
        assert guarded[put.kind, put.id] == table.snapshot.version(put.kind, put.id)
    assert guarded[RecordKind.LEDGER, str(FIRST)] == 0


def test_a_write_without_an_event_is_a_bug() -> None:
    table = Table()
    write = table.builder()
    write.put_unit(replace(table.unit, detail="x"))
    with pytest.raises(AssertionError, match="without an event"):
        write.build()


def test_a_device_that_has_an_owner_cannot_be_given_away() -> None:
    table = Table()
    table.run()
    write = table.builder()
    with pytest.raises(AssertionError, match="has an owner"):
        write.own("pool-a/node-a/0", AttemptRef(unit_id=UNIT, number=2))
    with pytest.raises(AssertionError, match="belongs to"):
        write.free("pool-a/node-a/0", AttemptRef(unit_id=UNIT, number=2))


def test_rows_survive_their_stored_form() -> None:
    table = Table()
    table.run()
    records = [
        Record(kind=kind, id=row_id, version=row.version, value=encode_row(row.value))
        for kind, rows in table.snapshot.rows.items()
        for row_id, row in rows.items()
    ]
    read = Snapshot.from_records(records, last_event=table.snapshot.last_event)
    assert {k: dict(v) for k, v in read.rows.items() if v} == {k: dict(v) for k, v in table.snapshot.rows.items() if v}


def test_a_row_that_cannot_be_read_is_set_apart() -> None:
    bad = Record(kind=RecordKind.UNIT, id="x", version=1, value={"state": "NONSENSE"})
    found = Snapshot.from_records([bad], last_event=4)
    assert [one.record for one in found.unreadable] == [bad]
    assert list(found.units()) == []


# --------------------------------------------------------------------------------------------------------------------- moves


@pytest.mark.parametrize(
    ("reason", "intent", "state"),
    [
        (ReleaseReason.COMPLETED, Intent.RUN, UnitState.SUCCEEDED),
        (ReleaseReason.COMPLETED, Intent.CANCEL, UnitState.SUCCEEDED),
        (ReleaseReason.FAILED, Intent.RUN, UnitState.QUEUED),
        (ReleaseReason.FAILED, Intent.CANCEL, UnitState.CANCELLED),
        (ReleaseReason.FAILED, Intent.SUSPEND, UnitState.SUSPENDED),
        (ReleaseReason.STOPPED, Intent.SUSPEND, UnitState.SUSPENDED),
    ],
)
def test_where_a_unit_goes_when_its_attempt_ends(reason: ReleaseReason, intent: Intent, state: UnitState) -> None:
    table = Table()
    table.run()
    if intent is Intent.CANCEL:
        table.take(jobs.cancel(table.snapshot, table.job, now=START))  # type: ignore[arg-type]
    elif intent is Intent.SUSPEND:
        table.take(jobs.suspend(table.snapshot, table.job, now=START))  # type: ignore[arg-type]
    table.do(attempts.exited, FIRST, ExitNote(reason=reason), after_s=60)
    assert table.unit.state is state
    assert table.attempt().state is AttemptState.RELEASED
    assert table.snapshot.owners() == {}
    assert list(table.snapshot.commands()) == []
    assert (table.job.ended_at is not None) == (state in (UnitState.SUCCEEDED, UnitState.CANCELLED))
    table.sound()


def test_a_released_attempt_takes_no_event() -> None:
    table = Table()
    table.run()
    table.do(attempts.exited, FIRST, ExitNote(reason=ReleaseReason.COMPLETED))
    for act in (attempts.ready, attempts.sight_regained):
        with pytest.raises((InvalidMove, AssertionError)):
            table.do(act, FIRST)
    with pytest.raises(InvalidMove):
        table.do(attempts.exited, FIRST, ExitNote(reason=ReleaseReason.COMPLETED))


@pytest.mark.parametrize(
    ("asked", "note", "reason", "failure"),
    [
        ("", ExitNote(reason=ReleaseReason.STOPPED), ReleaseReason.LOST, FailureKind.LOST),
        ("", ExitNote(reason=ReleaseReason.FAILED), ReleaseReason.FAILED, FailureKind.EXIT_CODE),
        ("cancelled", ExitNote(reason=ReleaseReason.FAILED, exit_code=-15), ReleaseReason.STOPPED, None),
        ("cancelled", ExitNote(reason=ReleaseReason.COMPLETED), ReleaseReason.COMPLETED, None),
        (attempts.STALLED, ExitNote(reason=ReleaseReason.STOPPED), ReleaseReason.FAILED, FailureKind.STALLED),
        (attempts.STALLED, ExitNote(reason=ReleaseReason.COMPLETED), ReleaseReason.COMPLETED, None),
    ],
)
def test_how_an_end_is_classified(asked: str, note: ExitNote, reason: ReleaseReason, failure: FailureKind | None) -> None:
    table = Table()
    table.run()
    if asked:
        table.do(attempts.request_stop, FIRST, reason=asked, grace_s=1.0)
    assert attempts.classify(table.attempt(), note) == (reason, failure)


def test_a_stop_asked_out_of_sight_shows_when_sight_is_regained() -> None:
    table = Table()
    table.run()
    table.do(attempts.lost_sight, FIRST, detail="away")
    assert table.unit.state is UnitState.RUNNING
    table.do(attempts.request_stop, FIRST, reason="cancelled", grace_s=1.0)
    assert table.attempt().state is AttemptState.UNKNOWN
    table.do(attempts.sight_regained, FIRST)
    assert (table.attempt().state, table.unit.state) == (AttemptState.STOPPING, UnitState.STOPPING)
    table.sound()


def test_waits_double_with_each_failure_in_a_row_and_a_checkpoint_begins_anew() -> None:
    spec = command_job(devices=2, retry=RetryPolicy(max_failures=9, backoff_s=2.0, max_backoff_s=300.0))
    table = Table(spec)
    waits = []
    for number in range(1, 5):
        ref = table.assign()
        table.do(attempts.claimed, ref, "agent")
        table.do(attempts.ready, ref)
        if number == 4:
            note = reflect.CheckpointNote(path="/x", step=1, manifest_sha256="0", num_bytes=1, save_s=0.1)
            write, accepted = reflect.publish(table.snapshot, ref, note, now=START)
            assert accepted
            table.take(write)
        table.do(attempts.exited, ref, ExitNote(reason=ReleaseReason.FAILED))
        assert table.unit.not_before is not None
        waits.append((table.unit.not_before - START).total_seconds())
    assert waits == [2.0, 4.0, 8.0, 2.0]
    table.sound()


def test_a_clock_set_back_never_costs_money_or_prolongs_a_wait() -> None:
    table = Table()
    table.run()
    table.do(attempts.exited, FIRST, ExitNote(reason=ReleaseReason.FAILED), after_s=-3600)
    assert table.attempt().cost_usd == 0.0
    before = START - timedelta(hours=5)
    assert decide.eligible(table.snapshot, table.unit, before)
    assert not decide.eligible(table.snapshot, table.unit, START - timedelta(hours=1))


# ----------------------------------------------------------------------------------------------------------------- decisions


def test_an_attempt_that_nobody_claimed_is_given_up_and_one_that_is_claimed_is_not() -> None:
    table = Table()
    ref = table.assign()
    around = decide.Circumstances(now=START, policy=Policy(claim_within_s=60), known_s={ref: 61.0})
    assert decide.decide(table.snapshot, table.unit, replace(around, known_s={ref: 59.0})) is None
    write = decide.decide(table.snapshot, table.unit, around)
    claimed = Table()
    claimed.assign()
    claimed.do(attempts.claimed, ref, "agent")
    assert decide.decide(claimed.snapshot, claimed.unit, around) is None
    table.take(write)
    assert table.attempt().failure_kind is FailureKind.START
    table.sound()


def test_unseen_is_lost_only_after_its_time_and_dead_at_once() -> None:
    table = Table()
    table.run()
    unseen = Observation(attempt=FIRST, sight=Sight.UNSEEN, at=START)
    seen = reflect.Seen(observation=unseen, silent_s=19.0, lost_after_s=20.0)
    assert reflect.reflect(table.snapshot, FIRST, seen, now=START) is None
    table.take(reflect.reflect(table.snapshot, FIRST, replace(seen, silent_s=21.0), now=START))
    assert table.attempt().state is AttemptState.UNKNOWN
    assert reflect.reflect(table.snapshot, FIRST, replace(seen, silent_s=1e9), now=START) is None
    dead = replace(seen, observation=replace(unseen, sight=Sight.DEAD))
    table.take(reflect.reflect(table.snapshot, FIRST, dead, now=START))
    assert table.attempt().release_reason is ReleaseReason.LOST
    table.sound()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("expired", "the plan expired"),
        ("owned", "belongs to job_1.u0.a1"),
        ("busy", "in use by processes that are not ours"),
        ("gone", "is not in the inventory"),
        ("offer", "offer pool-a/on-demand is not in the inventory"),
        ("twice", "names a device twice"),
        ("none", "has no devices"),
    ],
)
def test_an_assignment_is_checked_against_the_present(change: str, why: str) -> None:
    table, plan, present, now = Table(), plan_for(command_job(devices=2)), inventory(8), START
    assignment = plan.assignments[0]
    assert recheck(table.snapshot, present, plan=plan, assignment=assignment, now=now) is None
    placement = assignment.placement
    if change == "expired":
        now = plan.expires_at
    elif change == "owned":
        table.run()
    elif change == "busy":
        present = with_device_state(present, placement.devices[1], DeviceState.BUSY_ELSEWHERE)
    elif change == "gone":
        present = inventory(1)
    elif change == "offer":
        present = replace(present, offers=())
    else:
        devices = (placement.devices[0],) * 2 if change == "twice" else ()
        assignment = replace(assignment, placement=replace(placement, devices=devices))
    found = recheck(table.snapshot, present, plan=plan, assignment=assignment, now=now)
    assert found is not None
    assert why in found


def test_ranks_share_the_devices_of_a_node_in_equal_parts_or_not_at_all() -> None:
    spec = command_job(devices=2, command=CommandSpec(argv=("x",), working_dir="/", ranks_per_node=3))
    table = Table(spec)
    table.assign()
    with pytest.raises(ValueError, match="ranks_per_node 3 does not divide the 2 devices"):
        slots_for(table.job, table.attempt(), inventory(8))


def test_credentials_differ_by_attempt_and_key_and_are_compared_by_digest() -> None:
    table = Table()
    table.assign()
    good = credential_for(KEY, FIRST)
    assert credential_matches(table.attempt(), good)
    for bad in ("", credential_for(KEY, replace(FIRST, number=2)), credential_for(bytes(32), FIRST), credential_digest(good)):
        assert not credential_matches(table.attempt(), bad)


@pytest.mark.parametrize("name", ["lost_after_s", "claim_within_s", "stop_repeat_s", "stall_after_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_policy_with_a_time_that_makes_no_sense_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0"):
        Policy(**{name: value})


# ---------------------------------------------------------------------------------------------------------------- invariants


@pytest.mark.parametrize(
    ("rule", "kind", "row", "field", "value"),
    [
        ("I8", RecordKind.UNIT, UNIT, "state", "SUSPENDED"),
        ("I8", RecordKind.UNIT, UNIT, "state", "STARTING"),
        ("I22", RecordKind.UNIT, UNIT, "num_failures", 99),
        ("I7", RecordKind.UNIT, UNIT, "attempt_number", 3),
        ("I4", RecordKind.ATTEMPT, str(FIRST), "state", "RELEASED"),
        ("I14", RecordKind.ATTEMPT, str(FIRST), "stop_requested_at", START.isoformat()),
        ("I4", RecordKind.DEVICE, "pool-a/node-a/0", "owner", {"unit_id": "job_2.u0", "number": 1}),
        ("I12", RecordKind.DEVICE, "pool-a/node-a/0", "owner", {"unit_id": "job_2.u0", "number": 1}),
        ("I8", RecordKind.JOB, JOB, "ended_at", START.isoformat()),
        ("I10", RecordKind.JOB, JOB, "unit_ids", ["job_1.u0", "job_1.u1"]),
    ],
)
def test_each_broken_row_is_noticed(rule: str, kind: RecordKind, row: str, field: str, value: object) -> None:
    table = Table()
    table.run()
    table.sound()
    records = [
        Record(
            kind=k,
            id=i,
            version=found.version,
            value={**encode_row(found.value), **({field: value} if (k, i) == (kind, row) else {})},
        )
        for k, rows in table.snapshot.rows.items()
        for i, found in rows.items()
    ]
    broken = Snapshot.from_records(records, last_event=table.snapshot.last_event)
    assert rule in {violation.rule for violation in check(broken)}


def test_a_replay_notices_what_the_tables_do_not_show() -> None:
    table = Table()
    table.run()
    replay = Replay()
    replay.take(table.events)
    assert replay.compare(table.snapshot) == ()
    gap = StoredEvent(number=99, draft=EventDraft(kind="X", at=START))
    back = EventDraft(kind="X", at=START, body={"moves": {"attempts": {f"{UNIT}.a7": "STARTING"}}})
    replay.take([gap, StoredEvent(number=100, draft=back)])
    rules = {violation.rule for violation in replay.compare(table.snapshot)}
    assert {"I7", "I13"} <= rules


def test_a_stop_command_lives_exactly_as_long_as_the_stop() -> None:
    table = Table()
    table.run()
    table.do(attempts.request_stop, FIRST, reason="cancelled", grace_s=7.0)
    found = table.snapshot.command(FIRST, CommandAction.STOP)
    assert found is not None
    assert found.grace_s == 7.0
    table.do(attempts.exited, FIRST, ExitNote(reason=ReleaseReason.STOPPED))
    assert table.snapshot.command(FIRST, CommandAction.STOP) is None
