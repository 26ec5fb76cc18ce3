"""The control plane end to end over the simulated world: loss of sight, restarts, agents' calls and broken rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.adapters.planner.inline import InlinePlanner
from scheduler.adapters.simulated.world import AgentPhase, Script
from scheduler.ports import Change, EventDraft, RecordKind
from tests.support.kit import START, Rig, command_job, first_fit, train_job
from tests.unit.scheduler.service.test_control_plane import LONG, kinds, ref, secret
from trimtab.errors import ConflictError, NotFoundError
from trimtab.ids import AttemptRef
from trimtab.job import JobState
from trimtab.jobspec import CommandSpec
from trimtab.lifecycle import FailureKind, ReleaseReason
from trimtab.orders import (
    CheckpointNote,
    ClaimRequest,
    ClaimVerdict,
    ExitNote,
    Progress,
    ReportKind,
    RunOrder,
    RunReport,
)
from trimtab.plan import Plan, PlanningProblem

# -------------------------------------------------------------------------------------------------------------- loss of sight


def test_losing_sight_frees_and_stops_nothing_until_it_is_seen_again() -> None:
    rig = Rig(num_devices=1, script=LONG)
    job = rig.submit(command_job())
    other = rig.submit(command_job("other", priority=-1))
    rig.run(10)
    rig.world.hidden.add(ref(job))
    rig.world.handler = lambda: None
    rig.run(60)
    view = rig.control.job(job)
    assert (view.state, view.reason) == (JobState.UNKNOWN, "lost-sight")
    assert rig.control.job(other).state is JobState.QUEUED
    assert rig.world.agents[ref(job)].phase is AgentPhase.RANKS
    rig.world.hidden.clear()
    rig.run(5)
    assert rig.control.job(job).state is JobState.RUNNING


def test_reports_alone_keep_an_attempt_in_sight() -> None:
    rig = Rig(script=LONG)
    job = rig.submit(command_job())
    rig.run(10)
    rig.world.hidden.add(ref(job))
    rig.run(100)
    assert rig.control.job(job).state is JobState.RUNNING


def test_an_operator_can_vouch_for_a_death() -> None:
    rig = Rig(script=LONG)
    job = rig.submit(command_job())
    rig.run(10)
    with pytest.raises(ConflictError, match="only the death of an UNKNOWN attempt"):
        rig.control.vouch_dead(ref(job), operator="bob")
    rig.world.hidden.add(ref(job))
    rig.world.handler = lambda: None
    rig.run(60)
    assert "vouch" in rig.control.explain(job).smallest_change
    rig.world.kill(ref(job))
    rig.control.vouch_dead(ref(job), operator="bob")
    view = rig.control.job(job)
    assert view.attempts[0].release_reason is ReleaseReason.LOST
    (event,) = [event for event in rig.control.events(after=0) if event.kind == "ProvenDead"]
    assert event.body["vouched_by"] == "bob"


def test_a_job_cancelled_out_of_sight_stops_when_seen_again() -> None:
    rig = Rig(script=LONG)
    job = rig.submit(command_job())
    rig.run(10)
    rig.world.hidden.add(ref(job))
    rig.world.handler = lambda: None
    rig.run(60)
    assert rig.control.cancel(job).state is JobState.UNKNOWN
    rig.world.hidden.clear()
    rig.world.handler = lambda: rig.control
    rig.run(20)
    assert rig.control.job(job).state is JobState.CANCELLED


# -------------------------------------------------------------------------------------------------------------------- restart


def test_a_restart_disturbs_no_running_attempt() -> None:
    rig = Rig(script=replace(LONG, num_steps=100))
    job = rig.submit(train_job(devices=2))
    rig.run(20)
    for _ in range(3):
        rig.restart()
        rig.run(5)
    view = rig.control.job(job)
    assert (view.state, len(view.attempts)) == (JobState.RUNNING, 1)
    rig.run(100)
    view = rig.control.job(job)
    assert (view.state, len(view.attempts)) == (JobState.SUCCEEDED, 1)


def test_an_end_that_nobody_heard_is_found_after_a_restart() -> None:
    rig = Rig(script=Script(num_steps=30))
    job = rig.submit(train_job())
    rig.run(10)
    rig.world.handler = lambda: None
    rig.clock.advance(100)
    rig.world.advance(rig.clock.monotonic())
    rig.restart()
    rig.run(3)
    assert rig.control.job(job).state is JobState.SUCCEEDED


def test_the_death_of_all_at_once_goes_on_from_the_checkpoint() -> None:
    orders: list[RunOrder] = []
    rig = Rig()
    rig.script = lambda order: (orders.append(order), replace(LONG, num_steps=40))[1]
    job = rig.submit(train_job())
    rig.run(20)
    rig.world.kill(ref(job))
    rig.restart()
    rig.run(100)
    view = rig.control.job(job)
    assert (view.state, len(view.attempts)) == (JobState.SUCCEEDED, 2)
    assert orders[1].resume_from is not None


# --------------------------------------------------------------------------------------------------------------------- agents


@pytest.fixture
def silent() -> tuple[Rig, AttemptRef]:
    """A job whose agent does nothing by itself: the test speaks for it."""
    rig = Rig(script=replace(LONG, claim_delay_s=1e6))
    job = rig.submit(train_job(devices=2))
    rig.run(3)
    return rig, ref(job)


def report(attempt: AttemptRef, sequence: int, kind: ReportKind, **parts: object) -> RunReport:
    return RunReport(attempt=attempt, sequence=sequence, kind=kind, at=START, **parts)  # type: ignore[arg-type]


def test_a_claim_is_granted_once_and_again_to_the_same_agent(silent: tuple[Rig, AttemptRef]) -> None:
    rig, attempt = silent
    first, second = ClaimRequest(attempt=attempt, agent="a"), ClaimRequest(attempt=attempt, agent="b")
    assert rig.control.claim(first, secret(attempt)).verdict is ClaimVerdict.GRANTED
    assert rig.control.claim(first, secret(attempt)).verdict is ClaimVerdict.GRANTED
    refused = rig.control.claim(second, secret(attempt))
    assert (refused.verdict, refused.detail) == (ClaimVerdict.REFUSED, f"{attempt} is claimed by a")
    rig.restart()
    assert rig.control.claim(first, secret(attempt)).verdict is ClaimVerdict.GRANTED
    assert rig.control.claim(second, secret(attempt)).verdict is ClaimVerdict.REFUSED


def test_a_wrong_credential_gets_nothing(silent: tuple[Rig, AttemptRef]) -> None:
    rig, attempt = silent
    note = CheckpointNote(path="/x", step=1, manifest_sha256="0", num_bytes=1, save_s=0.1)
    other = secret(replace(attempt, number=2))
    assert rig.control.claim(ClaimRequest(attempt=attempt, agent="a"), other).verdict is ClaimVerdict.REFUSED
    assert rig.control.report(report(attempt, 1, ReportKind.READY), "").fenced
    assert not rig.control.publish_checkpoint(attempt, note, other)
    unknown = replace(attempt, number=9)
    assert rig.control.claim(ClaimRequest(attempt=unknown, agent="a"), secret(unknown)).verdict is ClaimVerdict.REFUSED


def test_the_secret_of_an_attempt_is_not_in_the_store(silent: tuple[Rig, AttemptRef]) -> None:
    rig, attempt = silent
    text = str([record.value for kind in RecordKind for record in rig.store.scan(kind)])
    assert secret(attempt) not in text


def test_repeated_reports_change_nothing(silent: tuple[Rig, AttemptRef]) -> None:
    rig, attempt = silent
    rig.control.claim(ClaimRequest(attempt=attempt, agent="a"), secret(attempt))
    note = ExitNote(reason=ReleaseReason.FAILED, failure=FailureKind.OUT_OF_MEMORY, rank=1, exit_code=76, detail="no memory")
    for kind, parts in ((ReportKind.READY, {}), (ReportKind.EXITED, {"exit": note})):
        sequence = 1 if kind is ReportKind.READY else 2
        for _ in range(3):
            rig.control.report(report(attempt, sequence, kind, **parts), secret(attempt))
    view = rig.control.job(attempt.job_id)
    assert view.num_failures == 1
    assert view.attempts[0].failure_kind is FailureKind.OUT_OF_MEMORY
    assert [kind for kind in kinds(rig) if kind in ("Ready", "Exited")] == ["Ready", "Exited"]


def test_old_progress_does_not_overwrite_newer(silent: tuple[Rig, AttemptRef]) -> None:
    rig, attempt = silent
    rig.control.claim(ClaimRequest(attempt=attempt, agent="a"), secret(attempt))
    for sequence, step in ((5, 50), (3, 30)):
        progress = Progress(step=step, num_steps=100, loss=1.0, tokens_per_s=1.0, step_s=1.0, num_samples=step)
        rig.control.report(report(attempt, sequence, ReportKind.PROGRESS, progress=progress), secret(attempt))
    found = rig.control.job(attempt.job_id).progress
    assert found is not None
    assert found.step == 50


def test_progress_is_not_durable(silent: tuple[Rig, AttemptRef]) -> None:
    rig, attempt = silent
    rig.control.claim(ClaimRequest(attempt=attempt, agent="a"), secret(attempt))
    before = rig.control.status().last_event
    for sequence in range(2, 50):
        progress = Progress(step=sequence, num_steps=100, loss=1.0, tokens_per_s=1.0, step_s=1.0, num_samples=1)
        rig.control.report(report(attempt, sequence, ReportKind.PROGRESS, progress=progress), secret(attempt))
    assert rig.control.status().last_event == before


def test_a_released_attempt_is_fenced(silent: tuple[Rig, AttemptRef]) -> None:
    rig, attempt = silent
    rig.control.claim(ClaimRequest(attempt=attempt, agent="a"), secret(attempt))
    rig.control.report(report(attempt, 1, ReportKind.EXITED, exit=ExitNote(reason=ReleaseReason.COMPLETED)), secret(attempt))
    note = CheckpointNote(path="/x", step=1, manifest_sha256="0", num_bytes=1, save_s=0.1)
    assert rig.control.report(report(attempt, 2, ReportKind.HEARTBEAT), secret(attempt)).fenced
    assert not rig.control.publish_checkpoint(attempt, note, secret(attempt))
    assert rig.control.claim(ClaimRequest(attempt=attempt, agent="a"), secret(attempt)).verdict is ClaimVerdict.REFUSED


def test_the_answer_to_a_report_asks_for_the_stop(silent: tuple[Rig, AttemptRef]) -> None:
    rig, attempt = silent
    rig.control.claim(ClaimRequest(attempt=attempt, agent="a"), secret(attempt))
    assert not rig.control.report(report(attempt, 1, ReportKind.READY), secret(attempt)).stop
    rig.control.cancel(attempt.job_id)
    reply = rig.control.report(report(attempt, 2, ReportKind.HEARTBEAT), secret(attempt))
    assert (reply.stop, reply.grace_s, reply.fenced) == (True, 30.0, False)


def test_checkpoints_only_go_forward_within_an_attempt(silent: tuple[Rig, AttemptRef]) -> None:
    rig, attempt = silent
    rig.control.claim(ClaimRequest(attempt=attempt, agent="a"), secret(attempt))

    def publish(step: int) -> bool:
        note = CheckpointNote(path=f"/x/{step}", step=step, manifest_sha256="0", num_bytes=1, save_s=0.1)
        return rig.control.publish_checkpoint(attempt, note, secret(attempt))

    assert [publish(step) for step in (5, 10, 10, 7)] == [True, True, True, False]
    assert rig.control.job(attempt.job_id).checkpoint_step == 10


# --------------------------------------------------------------------------------------------------------------------- orders


def test_an_order_has_all_that_an_agent_needs() -> None:
    orders: list[RunOrder] = []
    rig = Rig()
    rig.script = lambda order: (orders.append(order), LONG)[1]
    job = rig.submit(train_job(devices=2))
    rig.run(3)
    (order,) = orders
    assert order.argv == ("/usr/bin/python3", "-m", "workers.training.main")
    assert [(slot.rank, slot.local_rank, slot.device.index, slot.cores) for slot in order.slots] == [
        (0, 0, 0, (0, 1)),
        (1, 1, 1, (2, 3)),
    ]
    assert order.credential == secret(ref(job))
    assert order.attempt_dir == f"/sim/jobs/{job}/a1"
    assert order.checkpoint_dir == f"/sim/jobs/{job}/checkpoints"
    assert order.predicted_step_s is not None
    assert order.strategy is not None


def test_a_command_runs_as_the_user_wrote_it() -> None:
    orders: list[RunOrder] = []
    rig = Rig()
    rig.script = lambda order: (orders.append(order), LONG)[1]
    command = CommandSpec(argv=("python", "x.py"), working_dir="/w", environment={"A": "b"}, ranks_per_node=2)
    rig.submit(command_job(devices=4, command=command))
    rig.run(3)
    (order,) = orders
    assert (order.argv, order.working_dir, dict(order.environment)) == (("python", "x.py"), "/w", {"A": "b"})
    assert [(slot.rank, slot.device.index) for slot in order.slots] == [(0, 0), (0, 1), (1, 2), (1, 3)]


# --------------------------------------------------------------------------------------------------------------- what is broken


def test_a_row_that_cannot_be_read_is_set_aside_and_the_others_go_on() -> None:
    rig = Rig(script=Script(num_steps=5))
    bad, good = rig.submit(command_job("bad")), rig.submit(command_job("good"))
    garbage = Change(kind=RecordKind.UNIT, id=f"{bad}.u0", value={"garbage": True})
    event = EventDraft(kind="Garbage", at=rig.clock.now())
    rig.store.apply(op_id="garbage", term=0, guards=(), changes=(garbage,), events=(event,))
    rig.restart()
    rig.run(40)
    assert rig.control.job(good).state is JobState.SUCCEEDED
    view = rig.control.job(bad)
    assert (view.state, view.reason) == (JobState.FAILED, "quarantined")
    assert any(f"unit/{bad}.u0" in warning for warning in rig.control.status().warnings)
    assert rig.store.get(RecordKind.QUARANTINE, f"unit/{bad}.u0") is not None
    assert kinds(rig).count("Quarantined") == 1


def test_a_unit_whose_rows_contradict_each_other_is_set_aside_with_its_devices_kept() -> None:
    rig = Rig(script=LONG)
    job, other = rig.submit(command_job("bad")), rig.submit(command_job("good"))
    rig.run(10)
    record = rig.store.get(RecordKind.UNIT, f"{job}.u0")
    assert record is not None
    wrong = Change(kind=RecordKind.UNIT, id=record.id, value={**record.value, "state": "SUSPENDED"})
    event = EventDraft(kind="Garbage", at=rig.clock.now())
    rig.store.apply(op_id="garbage", term=0, guards=(), changes=(wrong,), events=(event,))
    rig.restart()
    rig.control.cycle()
    view = rig.control.job(job)
    assert (view.state, view.reason) == (JobState.FAILED, "quarantined")
    assert rig.control.status().num_free_devices == 6
    rig.run(60)
    assert rig.control.status().num_free_devices == 7
    assert rig.control.job(job).state is JobState.FAILED
    assert rig.control.job(other).state is JobState.RUNNING


def test_a_planner_that_fails_leaves_running_jobs_alone_and_is_asked_again() -> None:
    failures = [3]

    def sometimes(problem: PlanningProblem) -> Plan:
        if failures[0]:
            failures[0] -= 1
            raise RuntimeError("out of luck")
        return first_fit(problem)

    rig = Rig(planner=InlinePlanner(sometimes), script=LONG)
    job = rig.submit(command_job())
    rig.run(5)
    assert rig.control.job(job).state is JobState.QUEUED
    assert any("out of luck" in warning for warning in rig.control.status().warnings)
    rig.run(30)
    assert rig.control.job(job).state is JobState.RUNNING
    assert rig.control.status().warnings == ()


def test_only_the_leader_acts() -> None:
    rig = Rig(script=LONG)
    rig.control.cycle()
    old = rig.control
    rig.restart()
    rig.control.cycle()
    job = rig.submit(command_job())
    old.cycle()
    assert rig.control.job(job).state is JobState.QUEUED
    assert rig.control.status().term == 2
    assert old.status().term == 0


def test_plans_that_nobody_used_are_pruned_after_their_time() -> None:
    rig = Rig(script=Script(num_steps=2))
    used = rig.control.plan(command_job())
    unused = rig.control.plan(command_job("other"))
    rig.submit(command_job(), plan_id=used.id)
    assert rig.control.prune_plans() == 0
    rig.clock.advance(30 * 86_400.0)
    assert rig.control.prune_plans() == 1
    assert rig.control.stored_plan(used.id) == used
    with pytest.raises(NotFoundError):
        rig.control.stored_plan(unused.id)
