"""Any sequence of wishes, observations, reports and decisions keeps the invariants, in any order and with any repetition."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core import attempts, decide, jobs, reflect
from scheduler.core.invariants import Replay, check
from scheduler.core.policy import Policy
from scheduler.core.recheck import recheck
from scheduler.core.records import Observation, Sight, StoredEvent
from scheduler.core.snapshot import Snapshot, Write
from scheduler.core.write import WriteBuilder
from scheduler.service.planning import with_owners
from tests.support.kit import START, command_job, first_fit, inventory
from tests.support.long import in_long_form
from trimtab.ids import AttemptRef, JobId, UnitId
from trimtab.jobspec import RetryPolicy
from trimtab.lifecycle import AttemptState, FailureKind, Intent, ReleaseReason, UnitState
from trimtab.orders import CheckpointNote, ClaimRequest, ExitNote, ReportKind, RunReport
from trimtab.plan import PlanningProblem, PlanRequest

JOBS = [JobId(f"job_{number}") for number in range(3)]
NUM_DEVICES = 3

REFS = st.builds(
    lambda job, number: AttemptRef(unit_id=UnitId(f"{job}.u0"), number=number), st.sampled_from(JOBS), st.integers(1, 4)
)
EXITS = st.builds(
    lambda reason, failure: ExitNote(reason=reason, failure=failure if reason is ReleaseReason.FAILED else None),
    st.sampled_from(ReleaseReason),
    st.sampled_from(FailureKind),
)
STEPS = st.one_of(
    st.tuples(st.just("submit"), st.sampled_from(JOBS), st.integers(1, NUM_DEVICES)),
    st.tuples(st.sampled_from(["cancel", "suspend", "resume"]), st.sampled_from(JOBS)),
    st.tuples(st.just("place")),
    st.tuples(st.just("decide"), st.sampled_from(JOBS), st.booleans()),
    st.tuples(st.just("claim"), REFS, st.sampled_from(["x", "y"])),
    st.tuples(st.just("report"), REFS, st.sampled_from([ReportKind.READY, ReportKind.HEARTBEAT, ReportKind.EXITED]), EXITS),
    st.tuples(st.just("observe"), REFS, st.sampled_from(Sight), st.sampled_from([0.0, 100.0]), st.none() | EXITS),
    st.tuples(st.just("publish"), REFS, st.integers(0, 5)),
    st.tuples(st.just("vouch"), REFS),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 60.0, -30.0])),
)


class Play:
    """Applies steps to a snapshot, as a store without faults would."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.replay = Replay()
        self.now = START

    def take(self, write: Write | jobs.Refusal | None) -> None:
        if not isinstance(write, Write):
            return
        for guard in write.guards:
            assert guard.version == self.snapshot.version(guard.kind, guard.id)
        last = self.snapshot.last_event
        self.replay.take(StoredEvent(number=last + 1 + index, draft=draft) for index, draft in enumerate(write.events))
        self.snapshot = self.snapshot.after(write, last_event=last + len(write.events))

    def step(self, name: str, *arguments: object) -> None:
        getattr(self, f"do_{name}")(*arguments)
        found = [*check(self.snapshot), *self.replay.compare(self.snapshot)]
        assert not found, [str(one) for one in found]

    def do_submit(self, job: JobId, devices: int) -> None:
        if self.snapshot.job(job) is None:
            spec = command_job(devices=devices, retry=RetryPolicy(max_failures=1, max_losses=1))
            submission = jobs.Submission(job_id=job, spec=spec, spec_digest="d", submitted_by="ann")
            self.take(jobs.submit(self.snapshot, submission, now=self.now))

    def do_cancel(self, job: JobId) -> None:
        found = self.snapshot.job(job)
        if found is not None:
            self.take(jobs.cancel(self.snapshot, found, now=self.now))

    def do_suspend(self, job: JobId) -> None:
        found = self.snapshot.job(job)
        if found is not None:
            self.take(jobs.suspend(self.snapshot, found, now=self.now))

    def do_resume(self, job: JobId) -> None:
        found = self.snapshot.job(job)
        before = found.intent if found is not None else None
        if found is not None:
            self.take(jobs.resume(self.snapshot, found, now=self.now))
            after = self.snapshot.job(job)
            assert after is not None
            assert before is not Intent.CANCEL or after.intent is Intent.CANCEL

    def do_place(self) -> None:
        present = with_owners(inventory(NUM_DEVICES), self.snapshot)
        waiting = decide.queue_order(self.snapshot, self.now)
        requests = []
        for unit in waiting:
            job = self.snapshot.job(unit.job_id)
            assert job is not None
            requests.append(PlanRequest(unit_id=unit.id, job_id=unit.job_id, spec=job.spec))
        problem = PlanningProblem(basis_version=0, now=self.now, inventory=present, requests=tuple(requests))
        plan = first_fit(problem, plan_id="plan_x")
        for assignment in plan.assignments:
            found = self.snapshot.unit(assignment.unit_id)
            assert found is not None
            assert recheck(self.snapshot, present, plan=plan, assignment=assignment, now=self.now) is None
            write = WriteBuilder(self.snapshot, now=self.now)
            number = found.attempt_number + 1
            attempts.assign(write, found, assignment, plan_id=plan.id, number=number, credential_digest="")
            self.take(write.build())

    def do_decide(self, job: JobId, late: bool) -> None:
        unit = self.snapshot.unit(UnitId(f"{job}.u0"))
        if unit is None:
            return
        live = self.snapshot.live_attempt(unit)
        known = {live.ref: 1e6} if live is not None and late else {}
        around = decide.Circumstances(now=self.now, policy=Policy(), inventory=inventory(NUM_DEVICES), known_s=known)
        self.take(decide.decide(self.snapshot, unit, around))

    def do_claim(self, ref: AttemptRef, agent: str) -> None:
        before = self.snapshot.attempt(ref)
        write, reply = reflect.take_claim(self.snapshot, ClaimRequest(attempt=ref, agent=agent), now=self.now)
        self.take(write)
        job = self.snapshot.job(ref.job_id)
        if reply.verdict == "granted":
            assert before is not None
            assert before.state is not AttemptState.RELEASED
            assert job is not None
            assert job.intent is Intent.RUN

    def do_report(self, ref: AttemptRef, kind: ReportKind, note: ExitNote) -> None:
        report = RunReport(attempt=ref, sequence=1, kind=kind, at=self.now, exit=note if kind is ReportKind.EXITED else None)
        before = self.snapshot.attempt(ref)
        write, reply = reflect.take_report(self.snapshot, report, now=self.now)
        assert reply.fenced == (before is None or before.state is AttemptState.RELEASED)
        assert not (reply.fenced and write)
        self.take(write)

    def do_observe(self, ref: AttemptRef, sight: Sight, silent_s: float, note: ExitNote | None) -> None:
        last = None
        if note is not None:
            last = RunReport(attempt=ref, sequence=2, kind=ReportKind.EXITED, at=self.now, exit=note)
        seen = reflect.Seen(
            observation=Observation(attempt=ref, sight=sight, at=self.now, last_report=last), silent_s=silent_s, lost_after_s=20.0
        )
        before = self.snapshot.attempt(ref)
        self.take(reflect.reflect(self.snapshot, ref, seen, now=self.now))
        after = self.snapshot.attempt(ref)
        if before is not None and after is not None and sight is Sight.UNSEEN and note is None:
            assert (before.state is AttemptState.RELEASED) == (after.state is AttemptState.RELEASED)

    def do_publish(self, ref: AttemptRef, step: int) -> None:
        note = CheckpointNote(path=f"/{ref}/{step}", step=step, manifest_sha256="0", num_bytes=1, save_s=0.1)
        before = self.snapshot.attempt(ref)
        write, accepted = reflect.publish(self.snapshot, ref, note, now=self.now)
        assert not accepted or (before is not None and before.state is not AttemptState.RELEASED)
        self.take(write)

    def do_vouch(self, ref: AttemptRef) -> None:
        self.take(jobs.vouch_dead(self.snapshot, ref, operator="bob", now=self.now))

    def do_wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@settings(max_examples=in_long_form(300, 6_000), deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_any_sequence_keeps_the_invariants(steps: list[tuple[object, ...]]) -> None:
    play = Play()
    play.do_submit(JOBS[0], 2)
    play.do_submit(JOBS[1], 2)
    for name, *arguments in steps:
        play.step(str(name), *arguments)


@settings(max_examples=in_long_form(100, 2_000), deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_from_anywhere_everything_can_end(steps: list[tuple[object, ...]]) -> None:
    """Cancel all, prove all deaths: every unit ends and nothing stays owned."""
    play = Play()
    for name, *arguments in [("submit", JOBS[0], 1), ("submit", JOBS[1], 2), *steps]:
        play.step(str(name), *arguments)
    for job in list(play.snapshot.jobs()):
        if job.ended_at is None:
            play.do_cancel(job.id)
    for attempt in list(play.snapshot.attempts()):
        play.do_observe(attempt.ref, Sight.DEAD, 0.0, None)
    for job in list(play.snapshot.jobs()):
        play.do_decide(job.id, False)
        assert play.snapshot.job(job.id).ended_at is not None  # type: ignore[union-attr]
    assert play.snapshot.owners() == {}
    ends = {UnitState.SUCCEEDED, UnitState.FAILED, UnitState.CANCELLED}
    assert {unit.state for unit in play.snapshot.units()} <= ends
    assert check(play.snapshot) == ()
