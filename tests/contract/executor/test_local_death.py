"""What goes wrong, with real processes: kills, hangs, programs that will not end, children that hide. Nothing may be left."""

from __future__ import annotations

import signal
import textwrap
import time

import psutil
import pytest

from scheduler.ports import Sight
from tests.support.attempts import FAST, Place, wait_for
from trimtab import processes, wire
from trimtab.attempt_files import StandingRequest
from trimtab.lifecycle import FailureKind, ReleaseReason
from trimtab.orders import ClaimVerdict, ReportKind, ReportReply

# Writes its process id into a file and sleeps for ever; a daemon forks twice and takes a session of its own first.
DAEMON = """
import os, sys, time
name, clean, close = sys.argv[1], "clean" in sys.argv, "close" in sys.argv
if os.fork():
    os.wait()
    sys.exit(0)
os.setsid()
if os.fork():
    os._exit(0)
if close:
    os.closerange(0, 256)
part = name + ".part"
code = f"import os, time; open({part!r}, 'w').write(str(os.getpid())); os.rename({part!r}, {name!r}); time.sleep(60)"
argv = [sys.executable, "-S", "-c", code]
os.execve(argv[0], argv, {} if clean else dict(os.environ))
"""


def daemon(place: Place, *how: str, then: str = "time.sleep(60)") -> tuple[str, ...]:
    """A rank that starts a daemon and then does ``then``."""
    (place.scratch / "daemon.py").write_text(DAEMON)
    code = f"""
    import os, subprocess, sys, time
    subprocess.run([sys.executable, "-S", "daemon.py", "daemon.pid", *{list(how)!r}], check=True, close_fds=False)
    while not os.path.exists("daemon.pid"):
        time.sleep(0.01)
    {then}
    """
    return place.python(textwrap.dedent(code))


def daemon_pid(place: Place) -> int:
    path = place.scratch / "daemon.pid"
    wait_for(path.exists, "the daemon")
    return int(path.read_text())


def lives(pid: int) -> bool:
    found = processes.stat(pid)
    return found is not None and not found.ended


def test_a_killed_agent_takes_its_ranks_with_it(place: Place) -> None:
    place.executor.start(place.order("sleep", "60", num_ranks=2))
    wait_for(lambda: len(place.processes()) == 3)
    ranks = [process.pid for process in place.processes() if process != place.agent()]
    place.agent().kill()
    wait_for(lambda: not any(lives(pid) for pid in ranks), "the ranks die by themselves, before anybody looks")
    seen = place.until_dead()
    assert seen.last_report is None
    assert place.desk.kinds() == [ReportKind.READY]


@pytest.mark.parametrize("how", [(), ("clean",), ("close",)], ids=["marked", "cleared-environment", "closed-descriptors"])
def test_what_a_killed_agent_leaves_is_ended_before_its_death_is_said(place: Place, how: tuple[str, ...]) -> None:
    place.executor.start(place.order(*daemon(place, *how)))
    pid = daemon_pid(place)
    place.agent().kill()
    wait_for(lambda: place.see().sight is Sight.DEAD)
    assert not lives(pid)


@pytest.mark.parametrize("how", [(), ("clean",), ("close",), ("clean", "close")])
def test_what_a_rank_leaves_is_ended_with_the_attempt(place: Place, how: tuple[str, ...]) -> None:
    place.executor.start(place.order(*daemon(place, *how, then="pass")))
    pid = daemon_pid(place)
    place.until_dead()
    assert not lives(pid)
    assert place.desk.exit().reason is ReleaseReason.COMPLETED
    assert "left running" in place.log(-1)


def test_a_stop_reaches_a_daemon_too(place: Place) -> None:
    place.executor.start(place.order(*daemon(place, "clean", "close")))
    pid = daemon_pid(place)
    place.executor.stop(place.attempt(), grace_s=5)
    place.until_dead()
    assert not lives(pid)
    assert place.desk.exit().reason is ReleaseReason.STOPPED


def test_a_killed_rank_fails_the_attempt_and_ends_the_others(place: Place) -> None:
    place.executor.start(place.order("sleep", "60", num_ranks=2))
    wait_for(lambda: len(place.processes()) == 3)
    wait_for(lambda: "rank 1 is process" in place.log(-1))
    pid = int(place.log(-1).split("rank 1 is process ")[1].split()[0])
    psutil.Process(pid).kill()
    place.until_dead()
    note = place.desk.exit()
    assert (note.reason, note.failure, note.rank, note.exit_code) == (
        ReleaseReason.FAILED,
        FailureKind.KILLED,
        1,
        -signal.SIGKILL,
    )
    assert "SIGKILL" in note.detail


def test_the_first_failing_rank_is_named_with_its_last_line(place: Place) -> None:
    code = """
    import os, sys, time
    if os.environ["RANK"] == "1":
        time.sleep(0.3)
        raise ValueError("the cause")
    signal = __import__("signal")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
    time.sleep(60)
    """
    place.executor.start(place.order(*place.python(textwrap.dedent(code)), num_ranks=2))
    place.until_dead()
    note = place.desk.exit()
    assert (note.reason, note.failure, note.rank, note.exit_code) == (ReleaseReason.FAILED, FailureKind.EXIT_CODE, 1, 1)
    assert note.detail.endswith("ValueError: the cause")
    assert "rank 0 exited with code 9" in place.log(-1), "the other rank was asked, not killed"


def test_a_program_may_end_as_it_likes_when_it_is_stopped(place: Place) -> None:
    code = """
    import signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(3)))
    print("ready", flush=True)
    time.sleep(60)
    """
    place.executor.start(place.order(*place.python(textwrap.dedent(code)), num_ranks=2))
    wait_for(lambda: all("ready" in place.log(rank) for rank in (0, 1)))
    place.executor.stop(place.attempt(), grace_s=20)
    place.executor.stop(place.attempt(), grace_s=20)
    place.until_dead()
    assert place.desk.exit().reason is ReleaseReason.STOPPED
    assert "code 3" in place.desk.exit().detail
    assert [place.log(rank) for rank in (0, 1)] == ["ready\nsaved\n"] * 2, "asked once"


def test_a_program_that_ignores_the_stop_is_killed_after_the_grace(place: Place) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(60)"
    place.executor.start(place.order(*place.python(code), num_ranks=2))
    wait_for(lambda: all("ready" in place.log(rank) for rank in (0, 1)))
    place.executor.stop(place.attempt(), grace_s=0.5)
    place.until_dead()
    assert place.desk.exit().reason is ReleaseReason.STOPPED
    assert "2 of 2 ranks did not end within the grace" in place.desk.exit().detail


def test_a_later_stop_can_shorten_the_grace_and_never_lengthen_it(place: Place) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(60)"
    place.executor.start(place.order(*place.python(code)))
    wait_for(lambda: "ready" in place.log())
    place.executor.stop(place.attempt(), grace_s=3600)
    wait_for(lambda: "asked to stop" in place.log(-1))
    asked_s = time.monotonic()
    place.executor.stop(place.attempt(), grace_s=0)
    place.executor.stop(place.attempt(), grace_s=3600)
    request = wire.loads(StandingRequest, (place.folder() / "request.json").read_bytes())
    assert request.stop_by_s is not None
    assert asked_s <= request.stop_by_s <= time.monotonic(), "the agent may not have looked between the two"
    place.until_dead()


def test_a_rank_that_was_stopped_by_a_signal_can_be_ended(place: Place) -> None:
    place.executor.start(place.order("sleep", "60"))
    wait_for(lambda: len(place.processes()) == 2)
    rank = next(process for process in place.processes() if process != place.agent())
    rank.suspend()
    place.executor.stop(place.attempt(), grace_s=0.3)
    place.until_dead()
    assert place.desk.exit().reason is ReleaseReason.STOPPED


def test_a_frozen_agent_is_alive_and_does_not_survive_its_stop(place: Place) -> None:
    place.executor.start(place.order("sleep", "60", num_ranks=2))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    place.agent().suspend()
    wait_for(lambda: "stopped by a signal" in place.see().detail)
    assert place.see().sight is Sight.ALIVE
    place.executor.stop(place.attempt(), grace_s=0.1)
    seen = place.until_dead()
    assert seen.last_report is None


def test_a_thawed_agent_goes_on_where_it_was(place: Place) -> None:
    place.executor.start(place.order("sleep", "60"))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    agent = place.agent()
    agent.suspend()
    wait_for(lambda: agent.status() == psutil.STATUS_STOPPED)
    heard = len(place.desk.reports)
    agent.resume()
    wait_for(lambda: len(place.desk.reports) > heard + 2)
    place.executor.stop(place.attempt(), grace_s=2)
    place.until_dead()


def test_a_refused_claim_starts_nothing(place: Place) -> None:
    place.desk.verdict = ClaimVerdict.REFUSED
    place.executor.start(place.order(*place.python("open('started', 'w')")))
    seen = place.until_dead()
    assert seen.last_report is not None
    assert seen.last_report.exit is not None
    assert seen.last_report.exit.reason is ReleaseReason.STOPPED
    assert "as the test says" in seen.last_report.exit.detail
    assert not (place.scratch / "started").exists()
    assert place.desk.reports == []


def test_an_agent_waits_for_the_gateway_before_it_starts_anything(place: Place) -> None:
    place.gateway_away()
    place.executor.start(place.order(*place.python("open('started', 'w')")))
    wait_for(lambda: (place.folder() / "agent.json").exists())
    assert place.see().sight is Sight.ALIVE
    assert not (place.scratch / "started").exists()
    place.gateway_back()
    place.until_dead()
    assert (place.scratch / "started").exists()
    assert len({claim.agent for claim in place.desk.claims}) == 1


def test_a_claim_is_not_tried_for_ever(place: Place) -> None:
    place.gateway_away()
    hasty = place.restarted(type(FAST)(claim_for_s=0.5))
    hasty.start(place.order("sleep", "60"))
    seen = place.until_dead(executor=hasty)
    assert seen.last_report is not None
    assert seen.last_report.exit is not None
    assert seen.last_report.exit.failure is FailureKind.START
    assert "nothing was started" in seen.last_report.exit.detail


def test_a_stop_ends_an_agent_that_still_waits_for_its_claim(place: Place) -> None:
    place.gateway_away()
    place.executor.start(place.order("sleep", "60"))
    wait_for(lambda: (place.folder() / "agent.json").exists())
    place.executor.stop(place.attempt(), grace_s=60)
    seen = place.until_dead()
    assert seen.last_report is not None
    assert seen.last_report.exit is not None
    assert seen.last_report.exit.reason is ReleaseReason.STOPPED


def test_a_fenced_agent_kills_its_ranks_at_once(place: Place) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(60)"
    place.executor.start(place.order(*place.python(code), num_ranks=2, grace_s=3600))
    wait_for(lambda: all("ready" in place.log(rank) for rank in (0, 1)))
    place.desk.reply = ReportReply(fenced=True)
    seen = place.until_dead()
    assert seen.last_report is not None
    assert seen.last_report.exit is not None
    assert "fenced" in seen.last_report.exit.detail


def test_a_stop_in_the_reply_to_a_report_is_heeded(place: Place) -> None:
    place.executor.start(place.order("sleep", "60"))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    place.desk.reply = ReportReply(stop=True, grace_s=10)
    place.until_dead()
    assert place.desk.exit().reason is ReleaseReason.STOPPED


def test_sigterm_to_the_agent_is_a_stop_with_the_grace_of_the_order(place: Place) -> None:
    place.executor.start(place.order("sleep", "60"))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    place.agent().terminate()
    place.until_dead()
    assert place.desk.exit().reason is ReleaseReason.STOPPED


def test_a_flood_fills_no_disk_and_stops_no_heartbeat(place: Place) -> None:
    limit = 1 << 20
    bounded = place.restarted(type(FAST)(beat_s=0.05, tell_for_s=5.0, log_limit_bytes=limit))
    code = """
    import os, sys
    os.write(1, b"the first line\\n")
    for _ in range(2000):
        os.write(1, b"x" * 32767 + b"\\n")
    os.write(2, b"the last line\\n")
    """
    bounded.start(place.order(*place.python(textwrap.dedent(code)), num_ranks=2))
    place.until_dead(executor=bounded)
    assert place.desk.exit().reason is ReleaseReason.COMPLETED
    for rank in (0, 1):
        text = place.log(rank)
        assert text.startswith("the first line\n")
        assert text.endswith("the last line\n")
        assert len(text) <= limit + (64 << 10) + 200
        dropped = int(text.split(" bytes were dropped here")[0].rsplit(" ", 1)[1])
        note = text.index("\n[trimtab: the limit")
        end = text.index("dropped here]\n") + len("dropped here]\n")
        assert note + dropped + len(text) - end == 2000 * 32768 + len("the first line\nthe last line\n")
    beats = [report for report in place.desk.reports if report.kind is ReportKind.HEARTBEAT]
    assert len(beats) >= 2


def test_an_absent_gateway_disturbs_no_run_and_hears_all_that_matters_later(place: Place) -> None:
    patient = place.restarted(type(FAST)(beat_s=0.1, tell_for_s=20.0))
    code = "import time\nfor n in range(40):\n  print(n, flush=True)\n  time.sleep(0.05)"
    patient.start(place.order(*place.python(code)))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    place.gateway_away()
    wait_for(lambda: "39" in place.log().split(), "the run ends while nobody listens")
    place.gateway_back()
    place.until_dead(executor=patient)
    assert place.desk.kinds() == [ReportKind.READY, ReportKind.EXITED]
    assert [report.sequence for report in place.desk.reports] == list(range(1, len(place.desk.reports) + 1))


def test_an_end_that_nobody_heard_stands_in_the_exit_file(place: Place) -> None:
    place.executor.start(place.order("sh", "-c", "sleep 0.5; exit 5"))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    place.gateway_away()
    seen = place.until_dead()
    assert seen.last_report is not None
    assert seen.last_report.exit is not None
    assert seen.last_report.exit.exit_code == 5
    assert seen.last_report.sequence > place.desk.reports[-1].sequence
    assert place.restarted().observe()[0].last_report == seen.last_report


def test_everything_killed_at_once_leaves_nothing(place: Place) -> None:
    place.executor.start(place.order(*daemon(place), num_ranks=1))
    pid = daemon_pid(place)
    place.gateway_away()
    for process in place.processes():
        process.kill()
    wait_for(lambda: not lives(pid))
    again = place.restarted()
    assert place.until_dead(executor=again).last_report is None
