"""The lines between the agent and a rank of our own training worker: readiness, progress, checkpoints, stops, exit codes."""

from __future__ import annotations

import json
import os
import signal
import textwrap
from pathlib import Path

import pytest

from tests.support.attempts import Place, wait_for
from trimtab import wire
from trimtab.lifecycle import FailureKind, ReleaseReason
from trimtab.orders import (
    EXIT_CHECKPOINT,
    EXIT_OUT_OF_MEMORY,
    EXIT_STOPPED,
    CheckpointNote,
    ReportKind,
    ReportReply,
)

# A worker that speaks the protocol as the training worker does, without any of its work.
WORKER = """
import json, os, select, sys, time
from trimtab import wire
from trimtab.orders import *
rank = int(os.environ["RANK"])
out = os.fdopen(int(os.environ[ENV_REPORT_FD]), "w", buffering=1)
commands = os.fdopen(int(os.environ[ENV_CONTROL_FD]), "r", buffering=1) if ENV_CONTROL_FD in os.environ else None
def say(kind, **parts):
    out.write(wire.dumps(RankMessage(kind=RankMessageKind(kind), **parts)) + "\\n")
def progress(step, phase="train"):
    figures = dict(num_steps=10, loss=1.0 / (step + 1), tokens_per_s=5.0, step_s=0.1, num_samples=step)
    say("progress", progress=Progress(step=step, phase=phase, **figures))
def checkpoint(step):
    figures = dict(manifest_sha256="0" * 64, num_bytes=1, save_s=0.1)
    say("checkpoint", checkpoint=CheckpointNote(path=f"/c/step-{step}", step=step, **figures))
def command():
    return wire.loads(RankCommand, commands.readline())
def until(name):
    while not os.path.exists(name):
        time.sleep(0.01)
def note(text):
    print(text, flush=True)
"""


def worker(place: Place, code: str) -> tuple[str, ...]:
    return place.python(WORKER + textwrap.dedent(code))


def test_a_gang_is_ready_when_every_rank_is(place: Place) -> None:
    argv = worker(
        place,
        """
        if rank == 1:
            until("go")
        say("ready")
        until("end")
        """,
    )
    place.executor.start(place.order(*argv, num_ranks=2, train=True))
    wait_for(lambda: len(place.desk.reports) > 3)
    assert place.desk.kinds() == []
    (place.scratch / "go").touch()
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    (place.scratch / "end").touch()
    place.until_dead()
    assert place.desk.exit().reason is ReleaseReason.COMPLETED


def test_progress_and_summary_arrive_and_the_exit_file_repeats_the_summary(place: Place) -> None:
    argv = worker(
        place,
        """
        say("ready")
        if rank == 0:
            for step in range(1, 2001):
                progress(step)
            say("summary", summary={"loss": 1.5})
        """,
    )
    place.executor.start(place.order(*argv, num_ranks=2, train=True))
    seen = place.until_dead()
    heard = place.desk.progress()
    assert heard[-1].step == 2000
    assert len(heard) < 200, "progress is coalesced to the newest"
    assert [p.step for p in heard] == sorted(p.step for p in heard)
    assert seen.last_report is not None
    assert seen.last_report.summary == {"loss": 1.5}
    assert [kind for kind in place.desk.kinds() if kind is not ReportKind.PROGRESS] == [
        ReportKind.READY,
        ReportKind.SUMMARY,
        ReportKind.EXITED,
    ]


def test_a_checkpoint_is_published_and_answered(place: Place) -> None:
    argv = worker(
        place,
        """
        say("ready")
        if rank == 0:
            for step in (3, 6):
                checkpoint(step)
                answer = command()
                note(f"{answer.kind} {answer.step} {answer.accepted}")
        """,
    )
    place.executor.start(place.order(*argv, num_ranks=2, train=True))
    place.until_dead()
    assert [note.step for note in place.desk.published] == [3, 6]
    assert place.log() == "published 3 True\npublished 6 True\n"


def test_a_checkpoint_waits_for_an_absent_gateway_and_is_kept_if_it_never_comes(place: Place) -> None:
    argv = worker(
        place,
        """
        say("ready")
        until("go")
        checkpoint(3)
        checkpoint(6)
        until("end")
        """,
    )
    place.executor.start(place.order(*argv, train=True))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    place.gateway_away()
    (place.scratch / "go").touch()
    wait_for(lambda: '"step": 6' in _text(place, "checkpoint.json"))
    place.gateway_back()
    wait_for(lambda: [note.step for note in place.desk.published] == [3, 6])
    place.gateway_away()
    (place.scratch / "end").touch()
    seen = place.until_dead()
    assert seen.last_report is not None
    assert seen.last_report.checkpoint is None, "both were published"


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_an_unpublished_checkpoint_comes_back_with_the_proof_of_death(place: Place, killed: bool) -> None:
    argv = worker(
        place,
        """
        say("ready")
        until("go")
        checkpoint(7)
        until("end")
        """,
    )
    place.executor.start(place.order(*argv, train=True))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    place.gateway_away()
    (place.scratch / "go").touch()
    wait_for(lambda: (place.folder() / "checkpoint.json").exists())
    if killed:
        place.agent().kill()
    (place.scratch / "end").touch()
    seen = place.until_dead()
    assert seen.last_report is not None
    assert seen.last_report.checkpoint is not None
    assert seen.last_report.checkpoint.step == 7
    assert seen.last_report.kind is (ReportKind.CHECKPOINT if killed else ReportKind.EXITED)


def test_a_refused_checkpoint_fences_the_run(place: Place) -> None:
    place.desk.accepts = False
    argv = worker(place, "say('ready')\ncheckpoint(3)\ntime.sleep(60)")
    place.executor.start(place.order(*argv, num_ranks=2, train=True))
    seen = place.until_dead()
    assert seen.last_report is not None
    assert seen.last_report.exit is not None
    assert "fenced" in seen.last_report.exit.detail


def test_a_stop_is_a_command_to_rank_0_with_the_grace(place: Place) -> None:
    argv = worker(
        place,
        f"""
        import signal
        signal.signal(signal.SIGTERM, lambda *_: note("SIGTERM"))
        say("ready")
        if rank == 0:
            asked = command()
            note(f"{{asked.kind}} {{asked.grace_s > 15}}")
            checkpoint(4)
            command()
            open("stop", "w")
        until("stop")
        sys.exit({EXIT_STOPPED})
        """,
    )
    place.executor.start(place.order(*argv, num_ranks=2, train=True))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    place.executor.stop(place.attempt(), grace_s=20)
    place.until_dead()
    assert place.log(0) == "stop True\n"
    assert place.log(1) == ""
    assert place.desk.exit().reason is ReleaseReason.STOPPED
    assert place.desk.exit().detail == "stopped after a checkpoint"
    assert [note.step for note in place.desk.published] == [4]


def test_a_run_that_had_finished_when_it_was_stopped_is_complete(place: Place) -> None:
    argv = worker(place, "say('ready')\nif rank == 0: command()\nuntil('end')")
    place.executor.start(place.order(*argv, num_ranks=2, train=True))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    place.executor.stop(place.attempt(), grace_s=20)
    (place.scratch / "end").touch()
    place.until_dead()
    assert place.desk.exit().reason is ReleaseReason.COMPLETED


def test_a_worker_that_stops_by_itself_stops_as_a_gang(place: Place) -> None:
    argv = worker(place, f"say('ready')\nif rank == 0: time.sleep(60)\nsys.exit({EXIT_STOPPED})")
    place.executor.start(place.order(*argv, num_ranks=2, train=True, grace_s=0.3))
    place.until_dead()
    assert place.desk.exit().reason is ReleaseReason.STOPPED


def test_a_checkpoint_can_be_asked_for_by_file_and_by_reply(place: Place) -> None:
    argv = worker(
        place,
        """
        say("ready")
        for step in (1, 2):
            note(command().kind)
            checkpoint(step)
            note(command().kind)
        """,
    )
    place.executor.start(place.order(*argv, train=True))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    place.executor.checkpoint_now(place.attempt())
    wait_for(lambda: len(place.desk.published) == 1)
    place.desk.reply = ReportReply(checkpoint_now=True)
    place.until_dead()
    # Each reply asks again until it is taken back, so the last command read may be a second request instead of the answer.
    assert place.log().startswith("checkpoint\npublished\ncheckpoint\n")
    assert len(place.desk.published) == 2
    place.executor.checkpoint_now(place.attempt())


@pytest.mark.parametrize(
    ("code", "failure"),
    [(EXIT_OUT_OF_MEMORY, FailureKind.OUT_OF_MEMORY), (EXIT_CHECKPOINT, FailureKind.CHECKPOINT), (1, FailureKind.EXIT_CODE)],
)
def test_exit_codes_of_our_worker_have_a_meaning(place: Place, code: int, failure: FailureKind) -> None:
    place.executor.start(place.order(*worker(place, f"say('ready')\nsys.exit({code})"), train=True))
    place.until_dead()
    note = place.desk.exit()
    assert (note.reason, note.failure, note.exit_code) == (ReleaseReason.FAILED, failure, code)


@pytest.mark.parametrize("code", [EXIT_OUT_OF_MEMORY, EXIT_STOPPED])
def test_the_same_codes_of_a_users_program_have_none(place: Place, code: int) -> None:
    place.executor.start(place.order("sh", "-c", f"exit {code}"))
    place.until_dead()
    note = place.desk.exit()
    assert (note.reason, note.failure, note.exit_code) == (ReleaseReason.FAILED, FailureKind.EXIT_CODE, code)


def test_a_worker_without_progress_is_stalled(place: Place) -> None:
    argv = worker(place, "say('ready')\nprogress(1)\ntime.sleep(60)")
    place.executor.start(place.order(*argv, num_ranks=2, train=True, stall_after_s=1.0))
    place.until_dead()
    note = place.desk.exit()
    assert (note.reason, note.failure) == (ReleaseReason.FAILED, FailureKind.STALLED)


def test_lines_that_are_no_messages_are_told_and_skipped(place: Place) -> None:
    code = """
    say("ready")
    out.write("no json\\n")
    out.write('{"kind": "unknown"}\\n')
    out.write("[" * 100000 + "\\n")
    out.write("x" * (3 << 20) + "\\n")
    progress(5)
    """
    place.executor.start(place.order(*worker(place, code), train=True))
    place.until_dead()
    assert place.desk.exit().reason is ReleaseReason.COMPLETED
    assert [p.step for p in place.desk.progress()] == [5]
    assert place.log(-1).count("sent no message") >= 4


def test_a_worker_that_closes_its_pipes_runs_on(place: Place) -> None:
    argv = worker(place, "say('ready')\nout.close()\ncommands.close()\nos.close(1)\nos.close(2)\nuntil('end')")
    place.executor.start(place.order(*argv, train=True))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    place.executor.checkpoint_now(place.attempt())
    wait_for(lambda: len(place.desk.reports) > 5)
    (place.scratch / "end").touch()
    place.until_dead()
    assert place.desk.exit().reason is ReleaseReason.COMPLETED


def test_a_folder_that_takes_no_more_files_ends_no_run(place: Place) -> None:
    """The names that the agent writes to are taken by folders, so that each write fails as on a full disk, also for root."""
    argv = worker(place, "say('ready')\nuntil('go')\ncheckpoint(3)\nanswer = command()\nuntil('end')\nprogress(9)")
    place.executor.start(place.order(*argv, train=True))
    wait_for(lambda: place.desk.kinds() == [ReportKind.READY])
    for name in ("checkpoint.json", "exit.json", "request.json"):
        (place.folder() / name / "in the way").mkdir(parents=True)
    (place.scratch / "go").touch()
    wait_for(lambda: [note.step for note in place.desk.published] == [3])
    (place.scratch / "end").touch()
    wait_for(lambda: place.processes() == [])
    assert place.desk.exit().reason is ReleaseReason.COMPLETED
    assert place.desk.progress()[-1].step == 9
    told = place.log(-1)
    assert "cannot be kept here" in told
    assert "exit file cannot be written" in told
    assert "request of the executor cannot be read" in told


def test_a_kill_by_the_kernel_for_memory_is_told_apart(place: Place) -> None:
    """A rank in a memory control group of its own: the kernel really kills it."""
    group = memory_group(64 << 20)
    try:
        code = f"""
        import os
        open({str(group / "cgroup.procs")!r}, "w").write(str(os.getpid()))
        held = [bytearray(os.urandom(1 << 20)) for _ in range(512)]
        """
        place.executor.start(place.order(*place.python(textwrap.dedent(code))))
        place.until_dead()
    finally:
        group.rmdir()
    note = place.desk.exit()
    assert (note.failure, note.exit_code) == (FailureKind.OUT_OF_MEMORY, -signal.SIGKILL)
    assert "want of memory" in note.detail


def memory_group(limit_bytes: int) -> Path:
    """A new control group with that memory limit, version 1 or 2; skips where this user may not make one."""
    root = Path("/sys/fs/cgroup")
    version_1 = (root / "memory").is_dir()
    group = (root / "memory" if version_1 else root) / f"trimtab-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if version_1 else "memory.max")).write_text(str(limit_bytes))
        if not version_1:
            (group / "memory.swap.max").write_text("0")
    except OSError as error:
        if group.exists():
            group.rmdir()
        pytest.skip(f"no memory control group can be made here: {error}")
    return group


def _text(place: Place, name: str) -> str:
    path = place.folder() / name
    if not path.exists():
        return ""
    assert wire.loads(CheckpointNote, path.read_bytes()).step == json.loads(path.read_bytes())["step"]
    return path.read_text()
