"""Identity and proof of life on real processes."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from trimtab import files, processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A marked process that does nothing."""
    process = subprocess.Popen(["sleep", "60"], env={**os.environ, "MARK_OF_TEST": uuid.uuid4().hex})
    yield process
    process.kill()
    process.wait()


def test_a_process_lives_until_it_ended_and_a_zombie_does_not(sleeper: subprocess.Popen[bytes]) -> None:
    identity = processes.identify(sleeper.pid)
    assert identity is not None
    assert identity.boot_id == processes.boot_id()
    assert processes.lives(identity)
    os.kill(sleeper.pid, signal.SIGSTOP)
    assert processes.lives(identity), "a stopped process can go on any time"
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # ended, and not collected: a zombie
    found = processes.stat(sleeper.pid)
    assert found is not None
    assert found.ended
    assert not processes.lives(identity)


def test_the_same_id_with_another_start_or_boot_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    identity = processes.identify(sleeper.pid)
    assert identity is not None
    assert not processes.lives(dataclasses.replace(identity, start_ticks=identity.start_ticks - 1))
    assert not processes.lives(dataclasses.replace(identity, boot_id="another"))
    assert not processes.send(dataclasses.replace(identity, start_ticks=identity.start_ticks + 1), signal.SIGKILL)
    assert sleeper.poll() is None
    assert processes.send(identity, signal.SIGKILL)
    assert sleeper.wait() == -signal.SIGKILL
    assert not processes.send(identity, signal.SIGKILL)


def test_a_mark_is_found_in_a_grandchild_of_another_session() -> None:
    mark = uuid.uuid4().hex
    script = "import os,sys\nif os.fork(): os._exit(0)\nos.setsid()\nprint(os.getpid(), flush=True)\nimport time; time.sleep(60)"
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", script], env={**os.environ, "MARK_OF_TEST": mark}, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    child.wait()
    found = processes.marked({"MARK_OF_TEST": mark})
    assert [identity.pid for identity in found] == [pid]
    assert processes.marked({"MARK_OF_TEST": mark, "MARK_TOO": "1"}) == []
    assert processes.marked({"MARK_OF_TEST": mark[:-1]}) == [], "a prefix of the value is another value"
    assert processes.send(found[0], signal.SIGKILL)
    child.stdout.close()


def test_descendants_are_the_whole_tree(sleeper: subprocess.Popen[bytes]) -> None:
    parent = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    found = {identity.pid for identity in processes.descendants(os.getpid())}
    assert {parent.pid, child, sleeper.pid} <= found
    assert {identity.pid for identity in processes.descendants(parent.pid)} == {child}
    for identity in processes.descendants(parent.pid):
        processes.send(identity, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()


def test_a_lock_is_free_only_after_the_last_inheritor_died(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    handle = files.try_lock(path)
    assert handle is not None
    child = subprocess.Popen(["sleep", "60"], pass_fds=[handle])
    os.close(handle)
    assert files.try_lock(path) is None
    assert [identity.pid for identity in processes.holders(str(path))] == [child.pid]
    child.kill()
    child.wait()
    again = files.try_lock(path)
    assert again is not None
    os.close(again)


def test_an_atomic_write_replaces_and_keeps_rights(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_atomically(path, b"old")
    files.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]
    with pytest.raises(FileNotFoundError):
        files.write_atomically(tmp_path / "none" / "x", b"")
