"""An attempt's ordinary life on this machine: start, environment, logs, end, restart of the control process, forgetting."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from scheduler.ports import Sight
from tests.support.attempts import Place, wait_for
from trimtab import processes, wire
from trimtab.errors import ExecutorError
from trimtab.lifecycle import FailureKind, ReleaseReason
from trimtab.orders import ClaimVerdict, ReportKind

SLEEP = ("sleep", "60")


def test_two_ranks_run_with_their_environment_and_their_logs(place: Place) -> None:
    show = place.python("import json, os\nprint(json.dumps(dict(os.environ, affinity=sorted(os.sched_getaffinity(0)))))")
    place.executor.start(place.order(*show, num_ranks=2, resume_from="/a/checkpoint"))
    seen = place.until_dead()
    assert seen.last_report is not None
    assert seen.last_report.exit == place.desk.exit()
    assert place.desk.exit().reason is ReleaseReason.COMPLETED
    assert place.desk.kinds() == [ReportKind.READY, ReportKind.EXITED]
    assert [report.sequence for report in place.desk.reports] == list(range(1, len(place.desk.reports) + 1))
    for rank in (0, 1):
        found = json.loads(place.log(rank))
        wanted = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "NODE_RANK": "0",
            "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "TORCHELASTIC_RUN_ID": "job_test.u0",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TRIMTAB_ATTEMPT": "job_test.u0.a1",
            "TRIMTAB_RESUME_FROM": "/a/checkpoint",
        }
        assert {name: found[name] for name in wanted} == wanted
        assert found["affinity"] == [rank % (os.cpu_count() or 1)]
        assert int(found["MASTER_PORT"]) == int(json.loads(place.log(1 - rank))["MASTER_PORT"])


def test_any_script_can_import_the_kernel_and_read_its_order_without_the_secret(place: Place) -> None:
    code = """
    import os, pathlib, trimtab
    from trimtab import wire
    from trimtab.orders import RunOrder
    order = wire.loads(RunOrder, pathlib.Path(os.environ["TRIMTAB_ORDER_FILE"]).read_bytes())
    print(order.attempt, repr(order.credential), os.path.exists(os.environ["TRIMTAB_PLAN_FILE"]), trimtab.__file__)
    """
    place.executor.start(place.order(*place.python(textwrap.dedent(code))))
    place.until_dead()
    attempt, credential, plan, path = place.log().split()
    assert (attempt, credential, plan) == ("job_test.u0.a1", "''", "True")
    assert path.startswith(str(place.folder())), "the injected kernel, not the checkout"


def test_a_rank_inherits_nothing_but_its_own_descriptors(place: Place) -> None:
    code = "import os\nfor n in sorted(os.listdir('/proc/self/fd'), key=int):\n  print(n, os.path.realpath(f'/proc/self/fd/{n}'))"
    place.executor.start(place.order(*place.python(code), num_ranks=2))
    place.until_dead()
    for rank in (0, 1):
        held = [line.split(" ", 1)[1] for line in place.log(rank).splitlines()]
        assert not any("agent.lock" in path or "socket" in path for path in held)
        assert sum("pipe" in path for path in held) == 3, f"stdout, stderr and the report pipe: {held}"
        assert sum("family.lock" in path for path in held) == 1


def test_a_second_start_never_gives_a_second_agent(place: Place) -> None:
    order = place.order(*SLEEP, num_ranks=2)
    place.executor.start(order)
    place.executor.start(order)
    place.restarted().start(order)
    wait_for(lambda: len(place.processes()) == 3, "agent and two ranks")
    place.executor.start(order)
    assert len(place.processes()) == 3
    assert len(place.desk.claims) == 1
    place.executor.stop(order.attempt, grace_s=0)
    place.until_dead()
    place.executor.start(order)
    place.restarted().start(order)
    assert place.processes() == []
    assert len(place.desk.claims) == 1


def test_a_crash_after_the_spawn_and_before_its_record_gives_no_second_agent(place: Place) -> None:
    order = place.order(*SLEEP)
    place.desk.verdict = ClaimVerdict.GRANTED
    place.executor.start(order)
    (place.folder() / "spawned.json").unlink()  # as if the executor had died between the two
    again = place.restarted()
    again.start(order)
    assert place.see(executor=again).sight is Sight.ALIVE
    wait_for(lambda: len(place.processes()) == 2)
    again.start(order)
    assert len(place.processes()) == 2
    assert len({claim.agent for claim in place.desk.claims}) == 1


def test_a_crash_before_the_spawn_is_no_death_and_a_later_start_goes_on(place: Place) -> None:
    order = place.order("true")
    folder = place.folder()
    (folder / "logs").mkdir()
    (folder / "agent.lock").touch()
    (folder / "order.json").write_text(wire.dumps(order))
    again = place.restarted()
    seen = place.see(executor=again)
    assert seen.sight is Sight.UNSEEN
    assert "never started" in seen.detail
    again.start(order)
    assert place.until_dead(executor=again).last_report is not None
    assert place.desk.exit().reason is ReleaseReason.COMPLETED


def test_a_new_control_process_finds_what_runs_and_can_stop_it(place: Place) -> None:
    place.executor.start(place.order(*SLEEP))
    wait_for(lambda: len(place.processes()) == 2)
    place.executor.close()
    again = place.restarted()
    assert place.see(executor=again).sight is Sight.ALIVE
    again.stop(place.attempt(), grace_s=5)
    seen = place.until_dead(executor=again)
    assert seen.last_report is not None
    assert seen.last_report.exit is not None
    assert seen.last_report.exit.reason is ReleaseReason.STOPPED


def test_the_kill_of_the_control_process_does_not_disturb_a_run(place: Place) -> None:
    order = place.order(*place.python("import time\nfor n in range(10**6):\n  print(n, flush=True)\n  time.sleep(0.02)"))
    (place.scratch / "order").write_text(wire.dumps(order))
    code = """
    import pathlib, sys, time
    from scheduler.adapters.local.executor import LocalExecutor
    from scheduler.adapters.local.machine import LocalMachine
    from scheduler.config import Home
    from trimtab import wire
    from trimtab.orders import RunOrder
    executor = LocalExecutor(Home(path=pathlib.Path(sys.argv[1])), LocalMachine(cpu_devices=2))
    executor.start(wire.loads(RunOrder, pathlib.Path(sys.argv[2]).read_bytes()))
    print("started", flush=True)
    time.sleep(60)
    """
    argv = [sys.executable, "-c", textwrap.dedent(code), str(place.home.path), str(place.scratch / "order")]
    root = Path(__file__).resolve().parents[3]
    control = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=root)
    assert control.stdout is not None
    assert control.stdout.readline() == b"started\n"
    wait_for(lambda: "3" in place.log().split(), "the run goes")
    os.kill(control.pid, signal.SIGKILL)
    control.wait()
    control.stdout.close()
    place.gateway_away()
    seen_before = len(place.log().split())
    wait_for(lambda: len(place.log().split()) > seen_before + 20, "the run goes on")
    place.gateway_back()
    heard = len(place.desk.reports)
    wait_for(lambda: len(place.desk.reports) > heard + 2, "the agent reports again")
    again = place.restarted()
    assert place.see(executor=again).sight is Sight.ALIVE
    again.stop(order.attempt, grace_s=2)
    place.until_dead(executor=again)
    numbers = [int(word) for word in place.log().split()]
    assert numbers == list(range(len(numbers))), "no line was lost or written twice"


def test_forgetting_needs_death_and_keeps_the_logs(place: Place) -> None:
    place.executor.start(place.order("sh", "-c", "echo kept; sleep 60"))
    wait_for(lambda: "kept" in place.log())
    with pytest.raises(ExecutorError, match="not dead"):
        place.executor.forget(place.attempt())
    place.executor.stop(place.attempt(), grace_s=0)
    place.until_dead()
    place.executor.forget(place.attempt())
    place.executor.forget(place.attempt())
    assert place.executor.observe() == []
    assert place.restarted().observe() == []
    assert place.log() == "kept\n"
    left = {path.name for path in place.folder().iterdir()}
    assert left == {"agent.json", "exit.json", "logs"}, "the secret in the order is gone"
    place.executor.start(place.order(*SLEEP))
    place.executor.stop(place.attempt(), grace_s=0)
    assert place.executor.observe() == []
    assert place.processes() == []


def test_an_attempt_that_is_stopped_before_it_was_started_never_starts(place: Place) -> None:
    place.executor.stop(place.attempt(), grace_s=1)
    seen = place.see()
    assert seen.sight is Sight.DEAD
    assert seen.last_report is not None
    assert seen.last_report.exit is not None
    assert seen.last_report.exit.reason is ReleaseReason.STOPPED
    place.executor.start(place.order(*SLEEP))
    place.restarted().start(place.order(*SLEEP))
    assert place.processes() == []
    assert place.desk.claims == []


def test_another_boot_is_a_proof_of_death(place: Place) -> None:
    place.executor.start(place.order("true"))
    place.until_dead()
    (place.folder() / "exit.json").unlink()
    record = json.loads((place.folder() / "agent.json").read_text())
    record["process"] |= {"boot_id": "of the day before", "pid": 1, "start_ticks": 0}
    (place.folder() / "agent.json").write_text(json.dumps(record))
    seen = place.see(executor=place.restarted())
    assert seen.sight is Sight.DEAD
    assert "started again" in seen.detail


def test_a_reused_process_id_does_not_look_alive(place: Place) -> None:
    place.executor.start(place.order("true"))
    place.until_dead()
    (place.folder() / "exit.json").unlink()
    record = json.loads((place.folder() / "agent.json").read_text())
    record["process"]["pid"] = os.getpid()
    (place.folder() / "agent.json").write_text(json.dumps(record))
    assert place.see(executor=place.restarted()).sight is Sight.DEAD
    assert processes.identify(os.getpid()) is not None


def test_an_unreadable_folder_hides_nobody_else(place: Place) -> None:
    for number in (1, 2):
        place.executor.start(place.order("true", number=number))
        place.until_dead(number)
    (place.folder(1) / "agent.json").write_text("{")
    again = place.restarted()
    assert place.see(1, again).sight is Sight.UNSEEN
    assert place.see(2, again).sight is Sight.DEAD


def test_an_order_for_another_folder_is_refused(place: Place) -> None:
    order = dataclasses.replace(place.order("true"), attempt_dir=str(place.scratch))
    with pytest.raises(ExecutorError, match="the order says"):
        place.executor.start(order)
    assert place.executor.observe() == []


@pytest.mark.parametrize("argv", [("/no/such/program",), ("/etc/passwd",)])
def test_a_program_that_cannot_be_started_says_so(place: Place, argv: tuple[str, ...]) -> None:
    place.executor.start(place.order(*argv, num_ranks=2))
    place.until_dead()
    note = place.desk.exit()
    assert (note.reason, note.failure, note.rank) == (ReleaseReason.FAILED, FailureKind.START, 0)
    assert argv[0] in note.detail
    assert argv[0] in place.log()


def test_a_missing_working_folder_is_named(place: Place) -> None:
    order = dataclasses.replace(place.order("true"), working_dir="/no/such/folder")
    place.executor.start(order)
    place.until_dead()
    assert "/no/such/folder does not exist" in place.desk.exit().detail


def test_a_folder_that_cannot_be_prepared_is_a_start_failure(place: Place) -> None:
    order = place.order("true")
    (place.folder() / "plan.json" / "in the way").mkdir(parents=True)
    place.executor.start(order)
    place.until_dead()
    assert place.desk.exit().failure is FailureKind.START
    assert "cannot be prepared" in place.desk.exit().detail


def test_the_agent_that_cannot_be_spawned_is_an_executor_error(place: Place) -> None:
    bad = place.restarted(dataclasses.replace(place.options, python="/no/such/python"))
    with pytest.raises(ExecutorError, match="/no/such/python"):
        bad.start(place.order("true"))
    assert place.see(executor=bad).sight is Sight.UNSEEN
    place.restarted().start(place.order("true"))
    place.until_dead(executor=place.restarted())
    assert place.desk.exit().reason is ReleaseReason.COMPLETED
