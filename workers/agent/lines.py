"""JSON lines over the pipes between agent and ranks, non-blocking on the agent's side."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

from trimtab import wire
from trimtab.orders import RankCommand, RankMessage

MAX_LINE_BYTES = 1 << 20
_READ_BYTES = 1 << 16


class BadLine(ValueError):
    """A line that is no RankMessage."""


class MessageReader:
    """Reads RankMessage lines from a descriptor that it owns; a broken line is reported once and skipped."""

    def __init__(self, handle: int) -> None:
        os.set_blocking(handle, False)
        self.handle = handle
        self.ended = False
        self.idle = False
        self._pending = b""

    def read(self) -> Iterator[RankMessage | BadLine]:
        """The messages that are there now; afterwards ``idle`` tells that there is nothing more for the moment."""
        try:
            data = os.read(self.handle, _READ_BYTES)
        except BlockingIOError:
            self.idle = True
            return
        self.idle = False
        self.ended = not data
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > MAX_LINE_BYTES:
            yield BadLine(f"a line of more than {MAX_LINE_BYTES} bytes")
            self._pending = b""
        for line in lines:
            if line.strip():
                yield _parse(line)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.handle)


class CommandWriter:
    """Writes RankCommand lines to a descriptor that it owns. A rank that is gone, or does not read, cannot block the agent."""

    def __init__(self, handle: int) -> None:
        os.set_blocking(handle, False)
        self._handle = handle
        self._pending = b""

    def write(self, command: RankCommand) -> None:
        """Send, or keep what the pipe does not take yet for the next ``flush``."""
        self._pending += wire.dumps(command).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Try again what was kept."""
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._handle, self._pending) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._pending = b""  # rank 0 is gone: its exit is told by the wait for it

    def close(self) -> None:
        """Close the descriptor."""
        with contextlib.suppress(OSError):
            os.close(self._handle)


def _parse(line: bytes) -> RankMessage | BadLine:
    try:
        return wire.loads(RankMessage, line)
    except (wire.WireError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        return BadLine(f"{error}: {line[:200].decode(errors='replace')}")
