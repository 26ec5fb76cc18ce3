"""The command line against the real control process: programs, exit codes, streams, ids, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Shell, shell, wait_until
from trimtab.job import JobState


@pytest.fixture(scope="module")
def sh() -> Iterator[Shell]:
    with shell() as found:
        yield found


@pytest.fixture
def script(sh: Shell) -> Path:
    """Prints its rank, its folder and its arguments, and ends with the code of its first argument."""
    path = sh.cwd / "hello.py"
    path.write_text(
        "import os, sys\n"
        "rank, size = os.environ['RANK'], os.environ['WORLD_SIZE']\n"
        "print('rank', rank, 'of', size, os.getcwd(), *sys.argv[1:], os.environ.get('MARK', '-'))\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    return path


def test_a_program_runs_in_its_own_folder_and_environment_with_torchruns_variables(sh: Shell, script: Path) -> None:
    done = sh("run", "--devices", "2", "--env", "MARK=yes", "--", sys.executable, script.name, "0", "--flag")
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert lines == [f"[{rank}] rank {rank} of 2 {sh.cwd} 0 --flag yes" for rank in (0, 1)]
    assert "gets 2 devices" in done.stderr


def test_a_failing_program_is_7_and_its_own_code_is_said(sh: Shell, script: Path) -> None:
    done = sh("run", "--name", "fails", "--", sys.executable, script.name, "3")
    assert done.returncode == 7
    assert done.stdout == f"rank 0 of 1 {sh.cwd} 3 -\n"
    assert "exit code was 3" in done.stderr
    assert sh("wait", "fails").returncode == 7
    explained = json.loads(sh("explain", "fails", "-o", "json").stdout)
    assert explained["reason"] == "too-many-failures"


def test_retries_are_counted(sh: Shell, script: Path) -> None:
    done = sh("run", "--name", "again", "--max-retries", "1", "--", sys.executable, script.name, "1")
    assert done.returncode == 7
    view = json.loads(sh("get", "again", "-o", "json").stdout)
    assert [attempt["ref"]["number"] for attempt in view["attempts"]] == [1, 2]
    assert "try 2 gets 1 device" in done.stderr
    first = sh("logs", "again", "--attempt", "1")
    assert first.stdout == f"rank 0 of 1 {sh.cwd} 1 -\n"


def test_ctrl_c_detaches_and_the_job_goes_on(sh: Shell) -> None:
    script = sh.cwd / "slow.py"
    script.write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    process = sh.start("run", "--name", "slow", "--", sys.executable, "slow.py")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    job = str(sh.client.job("slow").id)
    for words in (f"trimtab wait {job}", f"trimtab logs -f {job}", f"trimtab cancel {job}"):
        assert words in said
    assert sh.client.job(job).state is JobState.RUNNING
    assert sh("wait", job, "--timeout", "1").returncode == 8
    cancelled = sh("cancel", "slow", "-o", "name")
    assert cancelled.stdout.strip() == job
    waited = sh("wait", job)
    assert waited.returncode == 7
    assert "CANCELLED" in waited.stderr


def test_following_survives_the_death_of_the_control_process(sh: Shell) -> None:
    script = sh.cwd / "steps.py"
    script.write_text("import time\nfor i in range(40):\n    print('line', i, flush=True)\n    time.sleep(0.2)\n")
    process = sh.start("run", "--name", "steps", "--", sys.executable, "steps.py")
    assert process.stdout is not None
    assert process.stdout.readline() == "line 0\n"
    sh.kill_control()
    out = process.stdout.read()  # what came with the first line is in its buffer, which communicate does not look into
    _, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    assert out.splitlines() == [f"line {i}" for i in range(1, 40)], "every line once, none lost"
    assert "reattached" in said
    assert len(sh.client.job("steps").attempts) == 1


def test_logs_follow_from_the_queue_to_the_end(sh: Shell, script: Path) -> None:
    job = sh("run", "-d", "-o", "name", "--name", "logged", "--", sys.executable, script.name, "0").stdout.strip()
    followed = sh("logs", "-f", job)
    assert followed.returncode == 0, followed.stderr
    assert followed.stdout == f"rank 0 of 1 {sh.cwd} 0 -\n"
    assert sh("logs", job, "--tail", "0").stdout == ""
    assert "rank" in sh("logs", job, "--rank", "-1").stdout or sh("logs", job, "--rank", "-1").returncode == 0
    assert sh("logs", job, "--attempt", "9").returncode == 4


def test_machine_output_is_json_alone_on_stdout(sh: Shell, script: Path) -> None:
    listed = sh("list", "-o", "json")
    assert isinstance(json.loads(listed.stdout), list)
    lines = sh("list", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [view["id"] for view in json.loads(listed.stdout)]
    assert sh("list", "-o", "name").stdout.split() == [view["id"] for view in json.loads(listed.stdout)]
    done = sh("run", "-o", "json", "--", sys.executable, script.name, "0")
    assert json.loads(done.stdout)["state"] == "SUCCEEDED"
    assert json.loads(sh("events", "-o", "json", "--limit", "3").stdout)[0]["number"] == 1
    import yaml

    assert yaml.safe_load(sh("get", "fails", "-o", "yaml").stdout)["state"] == "FAILED"


def test_jobs_go_by_unique_prefix_and_unknown_ones_are_4(sh: Shell) -> None:
    job = str(sh.client.job("fails").id)
    assert json.loads(sh("get", job[:-1], "-o", "json").stdout)["id"] == job
    lost = sh("get", "failz")
    assert lost.returncode == 4
    assert "did you mean fails" in lost.stderr
    assert lost.stdout == ""


def test_wrong_use_is_2_with_a_hint(sh: Shell, script: Path) -> None:
    assert "Did you mean plan" in sh("plam").stderr
    for call in (
        ("plam",),
        ("run",),
        ("run", "--", "no-such-program-here"),
        ("run", "x.yaml", "--", "true"),
        ("list", "--limit", "0"),
    ):
        assert sh(*call).returncode == 2, call
    missing = sh("plan", "no-such-file.yaml")
    assert missing.returncode == 4
    bad = sh.cwd / "bad.yaml"
    bad.write_text("kind: train\nname: x\nworkload:\n  step: 5\n")
    wrong = sh("submit", "bad.yaml")
    assert wrong.returncode == 2
    assert "bad.yaml:4:3: workload.step" in wrong.stderr
    assert "did you mean 'steps'" in wrong.stderr


def test_what_can_never_fit_is_3_or_explained(sh: Shell) -> None:
    job = sh("run", "-d", "-o", "name", "--name", "huge", "--devices", "64", "--", sys.executable, "-c", "0").stdout.strip()
    wait_until(lambda: sh.client.job(job).reason not in ("planning", "waiting"))
    explained = sh("explain", job)
    assert explained.returncode == 0
    assert "64" in explained.stdout
    sh("cancel", job)


def test_a_suspended_job_waits_for_resume(sh: Shell) -> None:
    (sh.cwd / "slow.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    job = sh("run", "-d", "-o", "name", "--name", "pausing", "--", sys.executable, "slow.py").stdout.strip()
    wait_until(lambda: sh.client.job(job).state is JobState.RUNNING)
    assert sh("suspend", job).returncode == 0
    wait_until(lambda: sh.client.job(job).state is JobState.SUSPENDED)
    assert sh("resume", job).returncode == 0
    wait_until(lambda: sh.client.job(job).state is JobState.RUNNING)
    assert len(sh.client.job(job).attempts) == 2
    assert sh("cancel", job, "nothing-of-that-name").returncode == 4


def test_check_and_version_need_no_server(sh: Shell) -> None:
    checked = sh("check", "-o", "json")
    assert {"trimtab", "solver", "pool local-cpu"} <= {finding["what"] for finding in json.loads(checked.stdout)}
    assert json.loads(sh("version", "-o", "json").stdout)["trimtab"]
    assert sh("--version").stdout.startswith("trimtab ")


def test_the_control_plane_can_live_inside_run(script: Path) -> None:
    with shell() as own:
        (own.cwd / script.name).write_text(script.read_text())
        done = own("run", "--foreground", "--", sys.executable, script.name, "0")
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"rank 0 of 1 {own.cwd} 0 -\n"
        assert own("server", "status").returncode == 1, "nothing stays behind"
        assert not own.home.socket.exists()


def test_on_a_terminal_there_is_colour_and_in_a_pipe_none(sh: Shell) -> None:
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        environment = {**sh.environment(), "TERM": "xterm"}
        environment.pop("NO_COLOR", None)
        from tests.support.cli import COMMAND

        os.execve(COMMAND[0], [*COMMAND, "list"], environment)
    seen = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.waitpid(pid, 0)
    os.close(terminal)
    assert b"\x1b[1m" in seen
    assert "\x1b" not in sh("list").stdout
