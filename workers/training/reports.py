"""What rank 0 tells its agent and hears from it, and the loss log on disk.

Messages are JSON lines over inherited descriptors. A progress line that does not fit the pipe is dropped, because the next one
says more; checkpoint and summary lines wait for room.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab import wire
from trimtab.orders import ENV_CONTROL_FD, ENV_REPORT_FD, RankCommand, RankCommandKind, RankMessage, RankMessageKind

MIN_PROGRESS_INTERVAL_S = 0.25
SEND_TIMEOUT_S = 30.0
_READ_BYTES = 1 << 16

Log = Callable[[str], None]


class Reporter:
    """Sends RankMessage lines; without a descriptor (no agent) it sends nothing."""

    def __init__(self, descriptor: int | None, log: Log) -> None:
        self._descriptor = descriptor
        self._log = log
        self._last_progress_s = float("-inf")
        if descriptor is not None:
            os.set_blocking(descriptor, False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], log: Log) -> Reporter:
        """The reporter of this rank."""
        text = environment.get(ENV_REPORT_FD)
        return cls(int(text) if text else None, log)

    @property
    def progress_due(self) -> bool:
        """Whether enough time has passed for another progress line."""
        return time.monotonic() - self._last_progress_s >= MIN_PROGRESS_INTERVAL_S

    def send(self, message: RankMessage) -> None:
        """Send a message."""
        if message.kind is RankMessageKind.PROGRESS:
            self._last_progress_s = time.monotonic()
        if self._descriptor is None:
            return
        line = wire.dumps(message).encode() + b"\n"
        try:
            self._write(line, wait=message.kind is not RankMessageKind.PROGRESS)
        except BrokenPipeError:
            self._log("the agent no longer listens; training goes on")
            self._descriptor = None

    def _write(self, line: bytes, *, wait: bool) -> None:
        assert self._descriptor is not None
        deadline = time.monotonic() + SEND_TIMEOUT_S
        sent = 0
        while sent < len(line):
            try:
                sent += os.write(self._descriptor, line[sent:])
            except BlockingIOError:
                if not wait and sent == 0:
                    return
                left = deadline - time.monotonic()
                if left <= 0:
                    self._log("the agent has not read for 30 s; a message is lost")
                    return
                select.select([], [self._descriptor], [], min(left, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What was asked for since the last look. ``published`` holds the answers to checkpoint notes."""

    stop: bool = False
    grace_s: float = 0.0
    checkpoint: bool = False
    fenced: bool = False
    published: tuple[RankCommand, ...] = ()


class CommandReader:
    """A thread that reads RankCommand lines, so that a step never waits for them. ``connected``: somebody can send any."""

    def __init__(self, descriptor: int | None, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._commands: list[RankCommand] = []
        self.connected = descriptor is not None
        if descriptor is not None:
            threading.Thread(target=self._read, args=(descriptor,), name="commands", daemon=True).start()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], log: Log) -> CommandReader:
        """The reader of rank 0."""
        text = environment.get(ENV_CONTROL_FD)
        return cls(int(text) if text else None, log)

    def take(self) -> Requests:
        """All commands that have come since the last call, as one."""
        with self._lock:
            commands, self._commands = self._commands, []
        stops = [command for command in commands if command.kind is RankCommandKind.STOP]
        published = tuple(command for command in commands if command.kind is RankCommandKind.PUBLISHED)
        return Requests(
            stop=bool(stops),
            grace_s=min((command.grace_s for command in stops), default=0.0),
            checkpoint=any(command.kind is RankCommandKind.CHECKPOINT for command in commands),
            fenced=any(not command.accepted for command in published),
            published=published,
        )

    def _read(self, descriptor: int) -> None:
        os.set_blocking(descriptor, True)
        pending = b""
        while data := os.read(descriptor, _READ_BYTES):
            *lines, pending = (pending + data).split(b"\n")
            for line in filter(None, lines):
                try:
                    command = wire.loads(RankCommand, line)
                except (wire.WireError, json.JSONDecodeError, UnicodeDecodeError) as error:
                    self._log(f"a command that cannot be read: {error}")
                    continue
                with self._lock:
                    self._commands.append(command)


class LineLog:
    """Appends JSON lines to a file. What a full disk refuses is kept and written later, with one warning."""

    def __init__(self, path: Path, log: Log) -> None:
        self._path = path
        self._log = log
        self._pending = b""
        self._torn = path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        self._refused = False

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line."""
        self._pending += json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            with self._path.open("ab", buffering=0) as file:
                if self._torn:
                    file.write(b"\n")
                    self._torn = False
                while self._pending:
                    self._pending = self._pending[file.write(self._pending) :]
        except OSError as error:
            if not self._refused:
                self._log(f"warning: {self._path} cannot be written ({error.strerror}); its lines are kept in memory")
            self._refused = True


def read_lines(path: Path) -> Iterable[dict[str, Any]]:
    """The whole lines of a LineLog; one that a crash tore is left out."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data.split(b"\n"):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            yield record
