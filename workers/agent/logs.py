"""A rank's log: appended, bounded, with what was dropped counted and the end kept."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

TAIL_BYTES = 64 << 10
"""The end of a log that ran over its limit is where the error stands, so this much of it is kept back and written last."""
_LINE_BYTES = 400


class RankLog:
    """Takes bytes for ever; the file never grows past ``limit_bytes`` and one closing note with the kept end."""

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._left_bytes = max(0, limit_bytes - os.fstat(self._handle).st_size)
        self._limit_bytes = limit_bytes
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._last = b""
        self.num_dropped_bytes = 0

    @property
    def full(self) -> bool:
        """Whether new bytes are dropped."""
        return self._left_bytes == 0

    def write(self, data: bytes) -> None:
        """Append what still fits; the rest is counted. A full disk drops too: a log must never stop a run."""
        self._last = (self._last + data)[-_LINE_BYTES:]
        now, later = data[: self._left_bytes], data[self._left_bytes :]
        if now:
            try:
                written = os.write(self._handle, now)
            except OSError:
                written = 0
            self._left_bytes -= len(now)
            later = now[written:] + later
        if later:
            self._keep(later)

    def last_line(self) -> str:
        """The last line that was written and is not empty, for the note on how the rank ended."""
        lines = [line.strip() for line in self._last.decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def close(self) -> None:
        """Write the note on what was dropped, and the end of it."""
        if self.num_dropped_bytes:
            tail = b"".join(self._tail)[-TAIL_BYTES:]
            lost = self.num_dropped_bytes - len(tail)
            note = f"\n[trimtab: the limit of {self._limit_bytes} bytes was reached, {lost} bytes were dropped here]\n"
            try:
                os.write(self._handle, note.encode() + tail)
            except OSError:
                self.num_dropped_bytes += len(tail)
        os.close(self._handle)

    def _keep(self, data: bytes) -> None:
        self.num_dropped_bytes += len(data)
        self._tail.append(data[-TAIL_BYTES:])
        self._tail_bytes += len(self._tail[-1])
        while self._tail_bytes - len(self._tail[0]) >= TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())
