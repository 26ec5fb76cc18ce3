"""What every planner runner promises; the child process also under real hangs and crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from planner import api
from scheduler.adapters.planner.inline import InlinePlanner
from scheduler.adapters.planner.process import ProcessPlanner
from scheduler.ports import PlannerRunner, PlanOutcome, PlanOutcomeKind
from tests.support import kit
from trimtab.errors import NotFoundError, SolverError
from trimtab.ids import JobId, UnitId
from trimtab.plan import PlanningProblem, PlanRequest

_PATIENCE_S = 120.0


def problem(devices: int = 1, **fields: object) -> PlanningProblem:
    request = PlanRequest(unit_id=UnitId("job_1.u0"), job_id=JobId("job_1"), spec=kit.command_job(devices=devices))
    made = PlanningProblem(basis_version=7, now=kit.START, inventory=kit.inventory(4), requests=(request,))
    return replace(made, **fields)  # type: ignore[arg-type]


def until(wanted: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + _PATIENCE_S
    while not wanted():
        assert time.monotonic() < limit_s, "it did not come about"
        time.sleep(0.01)


def outcome_of(runner: PlannerRunner, ticket: str) -> PlanOutcome:
    found: list[PlanOutcome] = []

    def there() -> bool:
        outcome = runner.poll(ticket)
        found.extend([outcome] if outcome is not None else [])
        return outcome is not None

    until(there)
    return found[0]


@pytest.fixture(scope="module")
def child() -> Iterator[ProcessPlanner]:
    """One runner for all: each test leaves a child that works, or none."""
    made = ProcessPlanner()
    until(lambda: made.pid is not None)
    yield made
    made.close()


@pytest.fixture(params=["inline", "process"])
def runner(request: pytest.FixtureRequest, child: ProcessPlanner) -> PlannerRunner:
    return InlinePlanner(api.plan) if request.param == "inline" else child


def test_a_problem_gets_its_plan(runner: PlannerRunner) -> None:
    outcome = outcome_of(runner, runner.submit(problem()))
    assert outcome.kind is PlanOutcomeKind.PLANNED
    assert outcome.plan is not None
    assert outcome.plan.basis_version == 7
    assert [a.unit_id for a in outcome.plan.assignments] == ["job_1.u0"]


def test_both_runners_give_the_same_assignments(runner: PlannerRunner) -> None:
    plan = outcome_of(runner, runner.submit(problem(2))).plan
    assert plan is not None
    assert plan.assignments == api.plan(problem(2)).assignments
    assert plan.id == api.plan(problem(2)).id


def test_what_cannot_run_is_in_the_plan_and_not_an_error(runner: PlannerRunner) -> None:
    outcome = outcome_of(runner, runner.submit(problem(64)))
    assert outcome.kind is PlanOutcomeKind.PLANNED
    assert outcome.plan is not None
    assert [one.unit_id for one in outcome.plan.unplaced] == ["job_1.u0"]
    assert outcome.plan.unplaced[0].detail


def test_rounds_queue_and_each_has_its_own_answer(runner: PlannerRunner) -> None:
    tickets = {runner.submit(problem(devices)): devices for devices in (1, 2, 3)}
    assert len(tickets) == 3
    for ticket, devices in tickets.items():
        plan = outcome_of(runner, ticket).plan
        assert plan is not None
        assert len(plan.assignments[0].placement.devices) == devices


def test_an_answer_can_be_asked_for_again(runner: PlannerRunner) -> None:
    ticket = runner.submit(problem())
    first = outcome_of(runner, ticket)
    assert runner.poll(ticket) == first


def test_an_unknown_ticket_is_an_error(runner: PlannerRunner) -> None:
    with pytest.raises(NotFoundError, match="nonsense"):
        runner.poll("nonsense")


@pytest.mark.parametrize("make", [lambda: InlinePlanner(api.plan), ProcessPlanner], ids=["inline", "process"])
def test_a_closed_runner_takes_nothing(make: Callable[[], PlannerRunner]) -> None:
    runner = make()
    runner.close()
    runner.close()
    with pytest.raises(SolverError, match="closed"):
        runner.submit(problem())


def test_a_planner_that_raises_is_an_outcome() -> None:
    def refuse(_: PlanningProblem) -> object:
        raise SolverError("no")

    def break_down(_: PlanningProblem) -> object:
        raise KeyError("oops")

    refusing, breaking = InlinePlanner(refuse), InlinePlanner(break_down)  # type: ignore[arg-type]
    assert outcome_of(refusing, refusing.submit(problem())).kind is PlanOutcomeKind.REFUSED
    outcome = outcome_of(breaking, breaking.submit(problem()))
    assert outcome.kind is PlanOutcomeKind.CRASHED
    assert "KeyError" in outcome.detail


def test_a_killed_child_is_a_crash_and_the_next_round_has_a_new_one(child: ProcessPlanner) -> None:
    outcome_of(child, child.submit(problem()))
    pid = child.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    ticket = child.submit(problem(time_limit_s=600.0))
    os.kill(pid, signal.SIGKILL)
    outcome = outcome_of(child, ticket)
    assert outcome.kind is PlanOutcomeKind.CRASHED
    assert "signal 9" in outcome.detail
    assert outcome_of(child, child.submit(problem())).kind is PlanOutcomeKind.PLANNED
    assert child.pid not in (None, pid)


def test_a_child_that_dies_between_rounds_costs_nothing(child: ProcessPlanner) -> None:
    outcome_of(child, child.submit(problem()))
    pid = child.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None)
    assert outcome_of(child, child.submit(problem())).kind is PlanOutcomeKind.PLANNED


def test_a_hanging_child_is_killed_after_one_and_a_half_times_the_limit(child: ProcessPlanner) -> None:
    outcome_of(child, child.submit(problem()))
    pid = child.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    outcome = outcome_of(child, child.submit(problem(time_limit_s=0.2)))
    assert outcome.kind is PlanOutcomeKind.TIMED_OUT
    assert "1.5 times its limit of 0.2 s" in outcome.detail
    assert not Path(f"/proc/{pid}").exists()
    assert outcome_of(child, child.submit(problem())).kind is PlanOutcomeKind.PLANNED


def test_submit_and_poll_do_not_wait_for_a_hanging_child() -> None:
    child = ProcessPlanner()
    outcome_of(child, child.submit(problem()))
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    tickets = [child.submit(problem(time_limit_s=600.0)) for _ in range(50)]
    assert [child.poll(ticket) for ticket in tickets] == [None] * 50
    child.close()
    assert {outcome_of(child, ticket).kind for ticket in tickets} == {PlanOutcomeKind.CRASHED}


def test_a_child_that_cannot_start_is_a_crash_that_says_why() -> None:
    runner = ProcessPlanner(memory_limit_bytes=2**24)
    try:
        outcome = outcome_of(runner, runner.submit(problem()))
        assert outcome.kind is PlanOutcomeKind.CRASHED
        assert outcome.detail
    finally:
        runner.close()


def test_the_child_ends_with_its_parent() -> None:
    script = (
        "import os, signal, time\n"
        "from scheduler.adapters.planner.process import ProcessPlanner\n"
        "p = ProcessPlanner()\n"
        "while p.pid is None: time.sleep(0.01)\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not _lives(pid))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_nothing_of_the_planner_reaches_our_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    runner = ProcessPlanner()
    try:
        outcome_of(runner, runner.submit(problem(2)))
    finally:
        runner.close()
    assert capfd.readouterr().out == ""


def test_closing_leaves_no_process_and_no_thread_behind() -> None:
    before = threading.active_count()
    runner = ProcessPlanner()
    outcome_of(runner, runner.submit(problem()))
    pid = runner.pid
    runner.close()
    assert pid is not None
    assert not _lives(pid)
    until(lambda: threading.active_count() <= before)
