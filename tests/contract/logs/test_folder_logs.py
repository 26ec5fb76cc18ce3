"""What the log store promises, on logs that real agents wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.adapters.local.logs import MAX_READ_BYTES, FolderLogs
from tests.support.attempts import Place, place_at, wait_for
from trimtab.errors import NotFoundError
from trimtab.ids import AttemptRef, UnitId


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with place_at(tmp_path) as made:
        yield made


@pytest.fixture
def logs(place: Place) -> FolderLogs:
    return FolderLogs(place.home)


def read_all(logs: FolderLogs, attempt: AttemptRef, rank: int, *, limit: int) -> bytes:
    data, offset = b"", 0
    while True:
        chunk = logs.read(attempt, rank, offset=offset, limit=limit)
        assert len(chunk.data) <= limit
        assert chunk.next_offset == offset + len(chunk.data)
        data, offset = data + chunk.data, chunk.next_offset
        if chunk.complete:
            return data
        assert chunk.data, "an ended attempt's log is not waited for"


def test_a_log_is_read_in_pieces_while_it_grows_and_to_its_end(place: Place, logs: FolderLogs) -> None:
    code = "import os, time\nprint('begin', flush=True)\nwhile not os.path.exists('end'):\n  time.sleep(0.01)\nprint('end')"
    place.executor.start(place.order(*place.python(code), num_ranks=2))
    wait_for(lambda: logs.read(place.attempt(), 1, offset=0, limit=100).data)
    first = logs.read(place.attempt(), 1, offset=0, limit=100)
    assert (first.data, first.next_offset, first.complete) == (b"begin\n", 6, False)
    waiting = logs.read(place.attempt(), 1, offset=6, limit=100)
    assert (waiting.data, waiting.next_offset, waiting.complete) == (b"", 6, False)
    (place.scratch / "end").touch()
    place.until_dead()
    last = logs.read(place.attempt(), 1, offset=6, limit=100)
    assert (last.data, last.next_offset, last.complete) == (b"end\n", 10, True)
    assert logs.ranks(place.attempt()) == [-1, 0, 1]
    assert read_all(logs, place.attempt(), 0, limit=3) == b"begin\nend\n"
    assert b"ended: completed" in read_all(logs, place.attempt(), -1, limit=64)
    assert logs.read(place.attempt(), 0, offset=-4, limit=100).data == b"end\n"
    assert logs.read(place.attempt(), 0, offset=10**9, limit=100).complete


def test_logs_outlive_forgetting_and_the_store_object(place: Place) -> None:
    place.executor.start(place.order("echo", "kept"))
    place.until_dead()
    place.executor.forget(place.attempt())
    assert read_all(FolderLogs(place.home), place.attempt(), 0, limit=100) == b"kept\n"


def test_the_log_of_a_killed_agent_is_complete(place: Place, logs: FolderLogs) -> None:
    place.executor.start(place.order("sh", "-c", "echo said; sleep 60"))
    wait_for(lambda: place.log() == "said\n")
    assert not logs.read(place.attempt(), 0, offset=0, limit=100).complete
    place.agent().kill()
    place.until_dead()
    chunk = logs.read(place.attempt(), 0, offset=0, limit=100)
    assert (chunk.data, chunk.complete) == (b"said\n", True)


def test_one_read_is_bounded(place: Place, logs: FolderLogs) -> None:
    place.executor.start(place.order("head", "-c", str(MAX_READ_BYTES + 10), "/dev/zero"))
    place.until_dead()
    chunk = logs.read(place.attempt(), 0, offset=0, limit=1 << 40)
    assert (len(chunk.data), chunk.complete) == (MAX_READ_BYTES, False)
    assert logs.read(place.attempt(), 0, offset=0, limit=0).data == b""


def test_an_attempt_that_was_never_started_is_not_found(place: Place, logs: FolderLogs) -> None:
    place.artifacts.attempt_dir(place.attempt())
    for ref in (place.attempt(), AttemptRef(unit_id=UnitId("../../etc.u0"), number=1)):
        with pytest.raises(NotFoundError):
            logs.read(ref, 0, offset=0, limit=1)
        with pytest.raises(NotFoundError):
            logs.ranks(ref)


def test_a_rank_without_a_log_is_waited_for_and_then_not_found(place: Place, logs: FolderLogs) -> None:
    place.gateway_away()
    place.executor.start(place.order("true"))
    wait_for(lambda: (place.folder() / "agent.json").exists())
    chunk = logs.read(place.attempt(), 0, offset=0, limit=10)
    assert (chunk.data, chunk.next_offset, chunk.complete) == (b"", 0, False)
    place.gateway_back()
    place.until_dead()
    with pytest.raises(NotFoundError, match="no log of rank 5; there are -1, 0"):
        logs.read(place.attempt(), 5, offset=0, limit=10)
