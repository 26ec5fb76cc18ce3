"""Messages to the agent and from it over real pipes, and the loss log."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trimtab import wire
from trimtab.orders import (
    CheckpointNote,
    Progress,
    RankCommand,
    RankCommandKind,
    RankMessage,
    RankMessageKind,
)
from workers.training.lineage import LINEAGE, LOSSES, NO_LOSSES, chain, digest_of, joined_losses
from workers.training.reports import CommandReader, LineLog, Reporter, Requests, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTE = RankMessage(
    kind=RankMessageKind.CHECKPOINT,
    checkpoint=CheckpointNote(path="/x", step=3, manifest_sha256="0" * 64, num_bytes=10, save_s=0.5),
)
PROGRESS = RankMessage(
    kind=RankMessageKind.PROGRESS,
    progress=Progress(step=1, num_steps=2, loss=1.5, tokens_per_s=10.0, step_s=0.1, num_samples=4),
)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError as error:
            assert error.errno == 9  # closed by the test  # noqa: PT017


def _fill(descriptor: int) -> int:
    """Fill the pipe; the number of bytes in it."""
    os.set_blocking(descriptor, False)
    size = 0
    while True:
        try:
            size += os.write(descriptor, b"x" * 100)
        except BlockingIOError:
            return size


def test_messages_arrive_whole(pipe: tuple[int, int]) -> None:
    reporter = Reporter(pipe[1], [].append)
    for message in (PROGRESS, NOTE):
        reporter.send(message)
    lines = os.read(pipe[0], 1 << 16).splitlines()
    assert [wire.loads(RankMessage, line) for line in lines] == [PROGRESS, NOTE]


def test_progress_is_throttled(pipe: tuple[int, int]) -> None:
    reporter = Reporter(pipe[1], [].append)
    assert reporter.progress_due
    reporter.send(PROGRESS)
    assert not reporter.progress_due


def test_full_pipe_drops_progress_and_never_blocks(pipe: tuple[int, int]) -> None:
    size = _fill(pipe[1])
    reporter = Reporter(pipe[1], [].append)
    reporter.send(PROGRESS)
    os.set_blocking(pipe[0], False)
    assert os.read(pipe[0], 1 << 20) == b"x" * size


def test_checkpoint_waits_for_room(pipe: tuple[int, int]) -> None:
    size = _fill(pipe[1])
    reporter = Reporter(pipe[1], [].append)
    child = os.fork()
    if child == 0:
        time.sleep(0.3)
        left = size
        while left:
            left -= len(os.read(pipe[0], left))
        os._exit(0)
    reporter.send(NOTE)
    os.waitpid(child, 0)
    assert wire.loads(RankMessage, os.read(pipe[0], 1 << 16)) == NOTE


def test_dead_agent_is_said_once_and_forgotten(pipe: tuple[int, int]) -> None:
    log: list[str] = []
    reporter = Reporter(pipe[1], log.append)
    os.close(pipe[0])
    for _ in range(3):
        reporter.send(NOTE)
    assert log == ["the agent no longer listens; training goes on"]


def test_without_an_agent_nothing_is_sent() -> None:
    reporter = Reporter.from_environment({}, [].append)
    reporter.send(NOTE)
    reader = CommandReader.from_environment({}, [].append)
    assert not reader.connected
    assert reader.take() == Requests()


def _wait_for(reader: CommandReader) -> Requests:
    for _ in range(500):
        requests = reader.take()
        if requests != Requests():
            return requests
        time.sleep(0.01)
    raise AssertionError("no command arrived")


def test_commands_are_read_and_bad_lines_reported(pipe: tuple[int, int]) -> None:
    log: list[str] = []
    reader = CommandReader(pipe[0], log.append)
    published = RankCommand(kind=RankCommandKind.PUBLISHED, step=3)
    stop = RankCommand(kind=RankCommandKind.STOP, grace_s=7.5)
    text = b"nonsense\n" + b"".join(wire.dumps(command).encode() + b"\n" for command in (published, stop))
    os.write(pipe[1], text[:40])
    time.sleep(0.05)
    os.write(pipe[1], text[40:])
    seen = _wait_for(reader)
    while not (seen.stop and seen.published):
        more = _wait_for(reader)
        seen = Requests(
            stop=seen.stop or more.stop, grace_s=seen.grace_s or more.grace_s, published=seen.published + more.published
        )
    assert seen == Requests(stop=True, grace_s=7.5, published=(published,))
    assert len(log) == 1
    assert "cannot be read" in log[0]
    assert reader.take() == Requests()
    os.close(pipe[1])


def test_refused_publication_means_fenced(pipe: tuple[int, int]) -> None:
    reader = CommandReader(pipe[0], [].append)
    os.write(pipe[1], wire.dumps(RankCommand(kind=RankCommandKind.PUBLISHED, step=3, accepted=False)).encode() + b"\n")
    assert _wait_for(reader).fenced
    os.close(pipe[1])


def test_lines_survive_a_full_disk(tmp_path: Path) -> None:
    path, log = tmp_path / LOSSES, []
    path.symlink_to("/dev/full")
    lines = LineLog(path, log.append)
    lines.append({"step": 1})
    lines.append({"step": 2})
    path.unlink()
    lines.append({"step": 3})
    assert [record["step"] for record in read_lines(path)] == [1, 2, 3]
    assert len(log) == 1
    assert "No space left" in log[0]


def test_torn_last_line_is_left_out_and_not_glued_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / LOSSES
    path.write_text('{"step":1}\n{"step":2,"lo', encoding="utf-8")
    assert [record["step"] for record in read_lines(path)] == [1]
    LineLog(path, [].append).append({"step": 2})
    assert [record["step"] for record in read_lines(path)] == [1, 2]


def _attempt(root: Path, number: int, resumed: int, losses: dict[int, float]) -> None:
    folder = root / f"a{number}"
    folder.mkdir()
    LineLog(root / LINEAGE, [].append).append({"attempt": number, "attempt_dir": str(folder), "resumed_step": resumed})
    log = LineLog(folder / LOSSES, [].append)
    for step, loss in losses.items():
        log.append({"step": step, "loss": repr(loss), "samples": "s"})


def test_curve_is_joined_over_attempts(tmp_path: Path) -> None:
    _attempt(tmp_path, 1, 0, {1: 4.0, 2: 3.0, 3: 99.0})
    _attempt(tmp_path, 2, 2, {3: 2.5, 4: 2.0})
    _attempt(tmp_path, 3, 2, {})  # died before its first step
    _attempt(tmp_path, 4, 2, {3: 2.5, 4: 2.0, 5: 1.0 / 3.0})
    curve = joined_losses(tmp_path)
    assert [(point.step, point.attempt) for point in curve] == [(1, 1), (2, 1), (3, 4), (4, 4), (5, 4)]
    expected = NO_LOSSES
    for step, loss in enumerate([4.0, 3.0, 2.5, 2.0, 1.0 / 3.0], start=1):
        expected = chain(expected, step, loss)
    assert digest_of(curve) == expected


def test_gap_in_the_curve_is_an_error(tmp_path: Path) -> None:
    _attempt(tmp_path, 1, 0, {1: 4.0, 3: 3.0})
    with pytest.raises(ValueError, match="step 2 is missing"):
        digest_of(joined_losses(tmp_path))


def test_missing_log_is_an_empty_one() -> None:
    assert list(read_lines(Path("/nonexistent/losses.jsonl"))) == []
