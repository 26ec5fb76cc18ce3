"""Bounded logs, and JSON lines over pipes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab import wire
from trimtab.orders import RankCommand, RankCommandKind, RankMessage, RankMessageKind
from workers.agent.lines import MAX_LINE_BYTES, BadLine, CommandWriter, MessageReader
from workers.agent.logs import TAIL_BYTES, RankLog
from workers.agent.memory import OomWatch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@given(pieces=st.lists(st.integers(0, 200_000), max_size=8), limit=st.integers(0, 300_000))
def test_a_log_keeps_its_begin_and_its_end_and_counts_the_rest(folder: Path, pieces: list[int], limit: int) -> None:
    path = folder / "log"
    path.unlink(missing_ok=True)
    log = RankLog(path, limit_bytes=limit)
    wanted = b""
    for number, size in enumerate(pieces):
        data = bytes([97 + number]) * size
        log.write(data)
        wanted += data
    log.close()
    found = path.read_bytes()
    assert found[: min(limit, len(wanted))] == wanted[:limit]
    if len(wanted) <= limit:
        assert found == wanted
        return
    rest = found[limit:].split(b"dropped here]\n", 1)
    tail = rest[1]
    assert wanted.endswith(tail)
    assert len(tail) == min(TAIL_BYTES, len(wanted) - limit)
    assert int(rest[0].rsplit(b" bytes were ")[0].rsplit(b" ", 1)[1]) + limit + len(tail) == len(wanted)


def test_a_second_agent_of_the_same_folder_appends_within_the_same_limit(tmp_path: Path) -> None:
    for word in (b"first ", b"second"):
        log = RankLog(tmp_path / "log", limit_bytes=8)
        log.write(word)
        log.close()
    text = (tmp_path / "log").read_text()
    assert text.startswith("first se\n[trimtab: ")
    assert text.endswith("cond")


def test_a_full_disk_never_stops_a_run() -> None:
    log = RankLog(Path("/dev/full"), limit_bytes=1 << 20)
    log.write(b"lost\n")
    assert log.num_dropped_bytes == 5
    assert log.last_line() == "lost"
    log.close()


def test_the_last_line_is_the_last_that_says_something(tmp_path: Path) -> None:
    log = RankLog(tmp_path / "log", limit_bytes=4)
    assert log.last_line() == ""
    log.write(b"Traceback\n  File\nValueError: \xff broken\n\n  \n")
    assert log.last_line() == "ValueError: � broken"
    log.close()


@given(cuts=st.lists(st.integers(1, 60), max_size=12))
def test_messages_are_read_whole_however_they_are_cut(cuts: list[int]) -> None:
    ours, theirs = os.pipe()
    reader = MessageReader(ours)
    lines = [wire.dumps(RankMessage(kind=kind)).encode() for kind in RankMessageKind]
    data = b"\n".join(lines) + b"\n\nrubbish\n"
    found: list[RankMessage | BadLine] = []
    for cut in [*cuts, len(data)]:
        if data:
            os.write(theirs, data[:cut])
            data = data[cut:]
        found += reader.read()
    os.close(theirs)
    found += reader.read()
    assert reader.ended
    assert [message.kind for message in found if isinstance(message, RankMessage)] == list(RankMessageKind)
    assert sum(isinstance(message, BadLine) for message in found) == 1
    reader.close()


def test_a_line_without_an_end_takes_no_memory_for_ever() -> None:
    ours, theirs = os.pipe()
    reader = MessageReader(ours)
    bad = 0
    for _ in range(3 * MAX_LINE_BYTES // (1 << 15)):
        os.write(theirs, b"x" * (1 << 15))
        bad += len(list(reader.read()))
    assert bad == 2
    reader.close()
    os.close(theirs)


def test_commands_wait_for_a_reader_that_is_slow_and_forget_one_that_is_gone() -> None:
    theirs, ours = os.pipe()
    writer = CommandWriter(ours)
    command = RankCommand(kind=RankCommandKind.PUBLISHED, step=1)
    for _ in range(2000):
        writer.write(command)
    received = b""
    while received.count(b"\n") < 2000:
        received += os.read(theirs, 1 << 16)
        writer.flush()
    assert all(wire.loads(RankCommand, line) == command for line in received.splitlines())
    os.close(theirs)
    writer.write(command)
    writer.close()
    writer.close()


def _proc(folder: Path, group: str, vmstat: int) -> Path:
    (folder / "self").mkdir(parents=True, exist_ok=True)
    (folder / "self" / "cgroup").write_text(group)
    (folder / "vmstat").write_text(f"pgfault 1\noom_kill {vmstat}\n")
    return folder


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/a/b", "a/b/memory.events"),
        ("4:memory:/a", "memory/a/memory.oom_control"),
        ("4:cpu,memory:/a", "memory/a/memory.oom_control"),
    ],
)
def test_kills_are_counted_in_the_own_control_group_of_either_version(tmp_path: Path, line: str, file: str) -> None:
    counter = tmp_path / "groups" / file
    counter.parent.mkdir(parents=True)
    counter.write_text("oom 9\noom_kill 3\n")
    watch = OomWatch(_proc(tmp_path / "proc", line, 7), tmp_path / "groups")
    assert watch.num_kills() == 0
    counter.write_text("oom 9\noom_kill 5\n")
    assert watch.num_kills() == 2


def test_without_a_control_group_the_machines_counter_is_evidence(tmp_path: Path) -> None:
    watch = OomWatch(_proc(tmp_path, "0::/none", 7), tmp_path / "groups")
    assert watch.num_kills() == 0
    _proc(tmp_path, "0::/none", 8)
    watch.sample()
    assert watch.num_kills() == 1


def test_a_machine_without_counters_has_no_evidence(tmp_path: Path) -> None:
    watch = OomWatch(tmp_path, tmp_path)
    watch.sample()
    assert watch.num_kills() == 0
