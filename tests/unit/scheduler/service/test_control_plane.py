"""The control plane end to end over the simulated world: what owners, agents and operators see."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from scheduler.adapters.simulated.world import Script
from scheduler.core.orders import credential_for
from scheduler.core.policy import Policy
from scheduler.ports import RecordKind
from tests.support.kit import KEY, NODE, POOL, Rig, command_job, train_job
from trimtab.errors import ConflictError, ExecutorError, InfeasibleError, NotFoundError, SpecError
from trimtab.ids import AttemptRef, UnitId
from trimtab.inventory import DeviceState
from trimtab.job import DeviceRef, JobState
from trimtab.jobspec import Limits, RetryPolicy, Trainer
from trimtab.lifecycle import FailureKind, ReleaseReason
from trimtab.orders import (
    RunOrder,
)

LONG = Script(num_steps=10_000, step_s=1.0)


def ref(job: str, number: int = 1) -> AttemptRef:
    return AttemptRef(unit_id=UnitId(f"{job}.u0"), number=number)


def secret(attempt: AttemptRef) -> str:
    return credential_for(KEY, attempt)


def kinds(rig: Rig, job: str | None = None) -> list[str]:
    return [event.kind for event in rig.control.events(after=0, job=job)]


# ------------------------------------------------------------------------------------------------------------ the life of a job


def test_a_job_goes_from_submit_to_success() -> None:
    rig = Rig()
    job = rig.submit(train_job(devices=2))
    assert rig.control.job(job).state is JobState.QUEUED
    rig.run(60)
    view = rig.control.job(job)
    assert view.state is JobState.SUCCEEDED
    assert view.ended_at is not None
    assert [attempt.release_reason for attempt in view.attempts] == [ReleaseReason.COMPLETED]
    assert dict(view.summary) == {"loss": 0.05}
    assert kinds(rig, job)[:5] == ["Submitted", "Assigned", "StartSent", "Claimed", "Ready"]
    assert not rig.world.agents
    assert rig.control.status().num_free_devices == 8


def test_a_job_of_another_trainer_is_not_accepted() -> None:
    rig = Rig()
    with pytest.raises(SpecError, match="megatron is not started here"):
        rig.submit(replace(train_job(), framework=Trainer.MEGATRON))
    assert not kinds(rig)


def test_progress_and_time_left_come_from_reports() -> None:
    rig = Rig(script=replace(LONG, num_steps=100, step_s=2.0))
    job = rig.submit(train_job())
    rig.run(40)
    view = rig.control.job(job)
    assert view.progress is not None
    assert view.eta_s == (100 - view.progress.step) * 2.0
    assert view.observed_at is not None
    assert view.predicted_step_s is not None
    assert rig.clock.now() - view.observed_at <= timedelta(seconds=5)


def test_before_the_first_report_time_left_is_the_prediction() -> None:
    rig = Rig(script=replace(LONG, claim_delay_s=50))
    job = rig.submit(train_job())
    rig.run(5)
    view = rig.control.job(job)
    assert view.state is JobState.STARTING
    assert view.eta_s == 20.0


def test_cost_is_hours_times_the_price_of_all_devices_of_the_offer() -> None:
    rig = Rig(script=replace(LONG, num_steps=3600), price=3.0)
    job = rig.submit(command_job(devices=4))
    rig.run(4000, step_s=10.0)
    view = rig.control.job(job)
    (attempt,) = view.attempts
    assert attempt.released_at is not None
    hours = (attempt.released_at - attempt.assigned_at).total_seconds() / 3600
    assert attempt.price_usd_per_hour == 12.0
    assert attempt.cost_usd == pytest.approx(12.0 * hours)
    assert view.cost_usd == attempt.cost_usd
    entry = rig.store.get(RecordKind.LEDGER, str(ref(job)))
    assert entry is not None
    assert entry.value["cost_usd"] == attempt.cost_usd


def test_a_job_that_asks_for_more_than_there_is_fails_with_the_reason() -> None:
    rig = Rig(num_devices=4)
    job = rig.submit(command_job(devices=5))
    rig.run(5)
    view = rig.control.job(job)
    assert (view.state, view.reason) == (JobState.FAILED, "cannot-ever-fit")
    assert "5 devices are asked for, there are 4" in view.detail


def test_hopelessness_needs_every_device_to_have_been_free() -> None:
    rig = Rig(num_devices=4, script=LONG)
    rig.submit(command_job())
    rig.run(5)
    job = rig.submit(command_job("big", devices=5))
    rig.run(30)
    assert rig.control.job(job).state is JobState.QUEUED


# ------------------------------------------------------------------------------------------------------------------ one queue


def test_jobs_of_several_people_share_the_devices_of_one_machine() -> None:
    rig = Rig(script=LONG)
    jobs = [rig.submit(command_job(f"j{n}", devices=n), submitted_by=f"p{n}") for n in (1, 2, 5)]
    rig.run(10)
    assert {rig.control.job(job).state for job in jobs} == {JobState.RUNNING}
    devices = [device for job in jobs for device in rig.control.job(job).attempts[0].devices]
    assert len(set(devices)) == len(devices) == 8


def test_the_queue_goes_by_priority_then_age() -> None:
    rig = Rig(num_devices=1, script=Script(num_steps=5))
    first = rig.submit(command_job("running"))
    rig.run(3)
    waiting = {}
    for name, priority in (("old", 0), ("young", 0), ("urgent", 5)):
        rig.clock.advance(1)
        waiting[name] = rig.submit(command_job(name, priority=priority))
    rig.run(120)
    begun = [event.job_id for event in rig.control.events(after=0) if event.kind == "Assigned"]
    assert begun == [first, waiting["urgent"], waiting["old"], waiting["young"]]


def test_a_waiting_job_says_who_holds_what_it_needs_and_until_when() -> None:
    rig = Rig(num_devices=4, script=replace(LONG, num_steps=100))
    holder = rig.submit(train_job("holder", devices=3))
    rig.run(20)
    job = rig.submit(command_job("waiter", devices=2))
    rig.run(5)
    why = rig.control.explain(job)
    assert (why.state, why.reason) == (JobState.QUEUED, "no-capacity")
    assert "2 devices are asked for, 1 are free" in why.detail
    (line,) = why.holders
    assert line.startswith(f"holder ({holder}): 3 devices of pool-a, until about 2026-01-05T12:01")
    assert why.smallest_change


def test_devices_that_others_use_are_not_given_away_and_named() -> None:
    rig = Rig(num_devices=2)
    rig.world.take_device(DeviceRef(pool_id=POOL, node_id=NODE, index=0), DeviceState.BUSY_ELSEWHERE)
    job = rig.submit(command_job(devices=2))
    rig.run(20)
    why = rig.control.explain(job)
    assert why.reason == "no-capacity"
    assert why.holders == ("processes that are not ours: pool-a/node-a/0",)
    rig.world.take_device(DeviceRef(pool_id=POOL, node_id=NODE, index=0), DeviceState.FREE)
    rig.run(20)
    assert rig.control.job(job).state is JobState.RUNNING


# ------------------------------------------------------------------------------------------------------- plans given at submit


def test_a_job_starts_at_once_with_the_plan_that_was_shown() -> None:
    rig = Rig()
    spec = command_job(devices=3)
    plan = rig.control.plan(spec)
    assert rig.control.stored_plan(plan.id) == plan
    job = rig.submit(spec, plan_id=plan.id)
    view = rig.control.job(job)
    assert view.state is JobState.STARTING
    assert view.plan_id == plan.id
    assert [device.key() for device in plan.assignments[0].placement.devices] == list(view.attempts[0].devices)
    rig.run(40)
    assert rig.control.job(job).state is JobState.SUCCEEDED


def test_a_plan_can_be_used_twice_only_where_its_devices_are_free_again() -> None:
    rig = Rig(script=Script(num_steps=2))
    spec = command_job(devices=3)
    plan = rig.control.plan(spec)
    rig.submit(spec, plan_id=plan.id)
    with pytest.raises(ConflictError, match=r"out of date: device pool-a/node-a/0 belongs to job_.*\.u0\.a1"):
        rig.submit(spec, plan_id=plan.id)
    rig.run(30)
    assert rig.control.job(rig.submit(spec, plan_id=plan.id)).state is JobState.STARTING


def test_a_plan_of_another_job_or_an_old_one_is_refused() -> None:
    rig = Rig()
    plan = rig.control.plan(command_job(devices=3))
    with pytest.raises(ConflictError, match="made for another job"):
        rig.submit(command_job(devices=4), plan_id=plan.id)
    with pytest.raises(NotFoundError, match="no plan 'plan_x'"):
        rig.submit(command_job(), plan_id="plan_x")
    rig.clock.advance(1801)
    with pytest.raises(ConflictError, match="expired"):
        rig.submit(command_job(devices=3), plan_id=plan.id)
    assert rig.control.jobs() == ()


def test_planning_what_can_never_run_raises_with_the_smallest_change() -> None:
    rig = Rig(num_devices=2)
    with pytest.raises(InfeasibleError, match="smallest change: ask for at most 2 devices"):
        rig.control.plan(command_job(devices=3))


def test_planning_what_could_run_later_gives_a_plan_that_says_so() -> None:
    rig = Rig(num_devices=2, script=LONG)
    rig.submit(command_job(devices=2))
    rig.run(5)
    plan = rig.control.plan(command_job())
    assert plan.assignments == ()
    assert plan.unplaced[0].reason == "no-capacity"


# ------------------------------------------------------------------------------------------------------------ submit and names


def test_one_key_makes_one_job() -> None:
    rig = Rig()
    job = rig.submit(command_job(), idempotency_key="k")
    assert rig.submit(command_job(), idempotency_key="k") == job
    assert len(rig.control.jobs()) == 1
    with pytest.raises(ConflictError, match="'k' was used for another job"):
        rig.submit(command_job("other"), idempotency_key="k")
    rig.restart()
    assert rig.submit(command_job(), idempotency_key="k") == job


def test_a_job_is_found_by_id_by_its_beginning_and_by_name() -> None:
    rig = Rig()
    first = rig.submit(command_job("train-a"))
    rig.clock.advance(40_000_000)
    second = rig.submit(command_job("train-a"))
    assert rig.control.job(first).id == first
    assert rig.control.job(first[:-1]).id == first
    assert rig.control.job("train-a").id == second
    with pytest.raises(NotFoundError, match="did you mean train-a"):
        rig.control.job("trian-a")
    with pytest.raises(NotFoundError, match="the beginning of 2 job ids"):
        rig.control.job("job_")


def test_jobs_are_listed_newest_first_in_pages_and_by_state() -> None:
    rig = Rig(num_devices=1, script=LONG)
    jobs = []
    for n in range(5):
        rig.clock.advance(1)
        jobs.append(rig.submit(command_job(f"j{n}")))
    rig.run(5)
    assert [view.id for view in rig.control.jobs()] == jobs[::-1]
    page = rig.control.jobs(limit=2)
    assert [view.id for view in rig.control.jobs(limit=2, after=page[-1].id)] == [jobs[2], jobs[1]]
    assert [view.id for view in rig.control.jobs(states=["RUNNING"])] == [jobs[0]]


# -------------------------------------------------------------------------------------------------- cancel, suspend and resume


def test_cancelling_a_queued_job_is_at_once_and_final() -> None:
    rig = Rig()
    job = rig.submit(command_job())
    assert rig.control.cancel(job).state is JobState.CANCELLED
    assert rig.control.cancel(job).state is JobState.CANCELLED
    rig.run(20)
    assert rig.control.job(job).attempts == ()
    with pytest.raises(ConflictError):
        rig.control.resume(job)


def test_cancelling_a_running_job_stops_it_with_its_checkpoint() -> None:
    rig = Rig(script=LONG)
    job = rig.submit(train_job())
    rig.run(20)
    view = rig.control.cancel(job)
    assert (view.state, view.reason) == (JobState.STOPPING, "stopping")
    rig.run(10)
    view = rig.control.job(job)
    assert view.state is JobState.CANCELLED
    assert view.attempts[0].release_reason is ReleaseReason.STOPPED
    assert view.checkpoint_step is not None
    assert view.checkpoint_step >= 10
    assert not rig.world.running()


def test_cancelling_what_has_ended_otherwise_is_a_conflict() -> None:
    rig = Rig(script=Script(num_steps=1))
    job = rig.submit(command_job())
    rig.run(15)
    with pytest.raises(ConflictError, match="has ended as SUCCEEDED"):
        rig.control.cancel(job)


def test_cancelling_before_the_agent_claimed_frees_the_devices_and_nothing_runs() -> None:
    rig = Rig(script=replace(LONG, claim_delay_s=30))
    job = rig.submit(command_job())
    rig.run(5)
    rig.control.cancel(job)
    assert rig.control.job(job).state is JobState.CANCELLED
    assert rig.control.status().num_free_devices == 8
    rig.run(60)
    assert not rig.world.running()
    assert not rig.world.agents


def test_suspend_and_resume_go_on_from_the_checkpoint() -> None:
    rig = Rig(script=replace(LONG, num_steps=40))
    orders: list[RunOrder] = []
    rig.script = lambda order: (orders.append(order), replace(LONG, num_steps=40))[1]
    job = rig.submit(train_job())
    rig.run(20)
    rig.control.suspend(job)
    rig.run(10)
    view = rig.control.job(job)
    assert (view.state, view.num_failures, view.num_losses) == (JobState.SUSPENDED, 0, 0)
    rig.run(30)
    assert rig.control.job(job).state is JobState.SUSPENDED
    rig.control.resume(job)
    rig.run(80)
    view = rig.control.job(job)
    assert view.state is JobState.SUCCEEDED
    assert orders[0].resume_from is None
    assert orders[1].resume_from is not None
    assert "/a1/step-" in orders[1].resume_from


# ------------------------------------------------------------------------------------------------------- failures and retries


def test_a_failure_is_tried_again_after_a_growing_wait_and_then_given_up() -> None:
    rig = Rig(script=replace(LONG, fails_at_step=2))
    job = rig.submit(command_job(retry=RetryPolicy(max_failures=2, backoff_s=10.0, max_backoff_s=300.0)))
    rig.run(10)
    view = rig.control.job(job)
    assert (view.state, view.reason) == (JobState.QUEUED, "back-off")
    assert "attempt 1 failed: as its script says" in view.detail
    rig.run(100)
    view = rig.control.job(job)
    assert (view.state, view.reason, view.num_failures) == (JobState.FAILED, "too-many-failures", 3)
    begun = [attempt.assigned_at for attempt in view.attempts]
    ended = [attempt.released_at for attempt in view.attempts]
    waits = [(begin - end).total_seconds() for begin, end in zip(begun[1:], ended, strict=False) if end is not None]
    assert 10 <= waits[0] < 16
    assert 20 <= waits[1] < 26


def test_losses_are_counted_apart_from_failures() -> None:
    rig = Rig(script=LONG)
    job = rig.submit(command_job(retry=RetryPolicy(max_failures=0, max_losses=1, backoff_s=1.0)))
    rig.run(10)
    rig.world.kill(ref(job, 1))
    rig.run(10)
    view = rig.control.job(job)
    assert (view.state, view.num_failures, view.num_losses) == (JobState.RUNNING, 0, 1)
    rig.world.kill(ref(job, 2))
    rig.run(10)
    assert rig.control.job(job).reason == "too-many-losses"


def test_a_run_that_gets_no_further_is_stopped_as_stalled_and_tried_again() -> None:
    scripts = [replace(LONG, hangs_at_step=3), Script()]
    rig = Rig(policy=Policy(stall_after_s=60.0))
    rig.script = lambda order: scripts[order.attempt.number - 1]
    job = rig.submit(train_job())
    rig.run(120)
    view = rig.control.job(job)
    assert view.state is JobState.SUCCEEDED
    assert [attempt.failure_kind for attempt in view.attempts] == [FailureKind.STALLED, None]
    assert view.num_failures == 1


def test_an_executor_that_refuses_to_start_is_asked_again_and_then_given_up() -> None:
    rig = Rig(policy=Policy(max_start_tries=3, start_retry_s=2.0))
    calls: list[AttemptRef] = []

    def refuse(order: RunOrder) -> None:
        calls.append(order.attempt)
        raise ExecutorError("there is no interpreter")

    rig.ports.executor.start = refuse  # type: ignore[method-assign]
    job = rig.submit(command_job(retry=RetryPolicy(max_failures=0)))
    rig.run(30)
    view = rig.control.job(job)
    assert len(calls) == 3
    assert (view.state, view.attempts[0].failure_kind) == (JobState.FAILED, FailureKind.START)
    assert rig.control.status().num_free_devices == 8


@pytest.mark.parametrize("limits", [Limits(max_cost_usd=0.02), Limits(max_hours=0.01)])
def test_a_job_that_used_up_a_limit_is_stopped_and_ends(limits: Limits) -> None:
    rig = Rig(script=LONG)
    job = rig.submit(command_job(limits=limits))
    rig.run(100)
    view = rig.control.job(job)
    assert (view.state, view.reason) == (JobState.FAILED, "budget")
    assert 0.0 < view.cost_usd < 0.03
