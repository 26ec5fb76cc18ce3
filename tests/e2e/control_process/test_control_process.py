"""The background control process: start, identity, one at a time, rights, an end that disturbs no job, kill -9."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scheduler.entrypoints.control.identity import read_identity
from tests.support.cli import Shell, shell, wait_until
from trimtab.job import JobState
from trimtab.processes import lives


@pytest.fixture
def sh() -> Iterator[Shell]:
    with shell() as found:
        yield found


def long_program(sh: Shell) -> str:
    """A job that counts into its log for half a minute; its id, when it runs."""
    script = sh.cwd / "count.py"
    script.write_text("import time\nfor i in range(300):\n    print('count', i, flush=True)\n    time.sleep(0.1)\n")
    done = sh("run", "--detach", "-o", "name", "--", "python3", "count.py")
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    wait_until(lambda: sh.client.job(job).state is JobState.RUNNING)
    return job


def test_start_is_private_and_known_by_name(sh: Shell) -> None:
    first = sh("server", "start")
    assert first.returncode == 0, first.stderr
    identity = sh.identity()
    assert f"control process {identity.process.pid} started" in first.stdout
    assert lives(identity.process)
    assert os.getsid(identity.process.pid) == identity.process.pid, "a session of its own: no terminal can take it along"
    assert stat.S_IMODE(sh.home.path.stat().st_mode) == 0o700
    for path in (sh.home.socket, sh.home.identity, sh.home.log, sh.home.lock):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    status = json.loads(sh("server", "status", "-o", "json").stdout)
    assert status["pid"] == identity.process.pid


def test_a_second_one_is_refused_and_the_first_goes_on(sh: Shell) -> None:
    sh("server", "start")
    pid = sh.identity().process.pid
    again = sh("server", "start")
    assert again.returncode == 0
    assert f"{pid} already runs" in again.stdout
    forced = sh("server", "start", "--foreground")
    assert forced.returncode == 6
    assert sh.identity().process.pid == pid
    assert sh("server", "status").returncode == 0


def test_many_commands_at_once_start_one(sh: Shell) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: sh("server", "start"), range(4)))
    assert [one.returncode for one in done] == [0] * 4, [one.stderr for one in done]
    pid = sh.identity().process.pid
    assert all(str(pid) in one.stdout for one in done)
    assert sum("started" in one.stdout for one in done) == 1


def test_stop_leaves_running_jobs_alone_and_the_next_start_finds_them(sh: Shell) -> None:
    job = long_program(sh)
    before = sh.client.job(job).attempts
    stopped = sh("server", "stop")
    assert stopped.returncode == 0
    assert "1 job with live attempts" in stopped.stderr
    assert read_identity(sh.home) is None
    assert not sh.home.socket.exists()
    assert sh("server", "status").returncode == 1
    sh("server", "start")
    view = sh.client.job(job)
    assert view.state is JobState.RUNNING
    assert [a.ref for a in view.attempts] == [a.ref for a in before]
    assert sh("server", "stop").returncode == 0
    assert "no control process runs" in sh("server", "stop").stdout
    sh("server", "start")  # so that the program, which goes on, is ended with this test


def test_kill_9_is_repaired_by_the_next_command(sh: Shell) -> None:
    job = long_program(sh)
    old = sh.kill_control()
    assert sh.home.socket.exists(), "a killed process leaves its socket behind"
    shown = sh("get", job, "-o", "json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["state"] == "RUNNING"
    assert len(json.loads(shown.stdout)["attempts"]) == 1
    assert sh.identity().process.pid != old


def test_a_stale_identity_with_a_reused_pid_is_nobody(sh: Shell) -> None:
    sh("server", "start")
    identity = json.loads(sh.home.identity.read_text())
    sh("server", "stop")
    identity["process"]["pid"] = os.getpid()
    sh.home.identity.write_text(json.dumps(identity))
    stopped = sh("server", "stop")
    assert "no control process runs" in stopped.stdout
    assert sh("server", "start").returncode == 0


def test_it_says_why_it_does_not_start(sh: Shell) -> None:
    sh.home.store.write_bytes(b"this is no database" * 100)
    done = sh("server", "start")
    assert done.returncode == 1
    assert "did not start" in done.stderr
    assert "control.log:" in done.stderr
    sh.home.store.unlink()


def test_a_home_that_is_too_long_for_a_socket_is_said_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [*_command(), "server", "start"],
        env={**os.environ, "TRIMTAB_HOME": str(tmp_path / ("x" * 120))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "TRIMTAB_HOME" in done.stderr
    assert "unix socket" in done.stderr


def test_in_the_foreground_it_ends_with_a_signal_in_order(sh: Shell) -> None:
    process = sh.start("server", "start", "--foreground")
    try:
        wait_until(lambda: sh("server", "status").returncode == 0)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "running attempts go on" in said
    assert not sh.home.socket.exists()


def _command() -> tuple[str, ...]:
    from tests.support.cli import COMMAND

    return COMMAND
