"""Signals as things to look at in the main loop: nothing happens inside a handler."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from types import FrameType


class Signals:
    """SIGTERM and SIGINT ask for a stop; SIGUSR1 and SIGCHLD only wake the loop, as does ``wake`` from any thread."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._terminate = False
        signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_terminate)
        for number in (signal.SIGUSR1, signal.SIGCHLD, signal.SIGHUP):
            # A handler and not SIG_IGN: an ignored signal would stay ignored in the ranks.
            signal.signal(number, _nothing)

    @property
    def wake_handle(self) -> int:
        """Readable when the loop should look."""
        return self._ours.fileno()

    def take_terminate(self) -> bool:
        """Whether a stop was asked since the last call."""
        asked, self._terminate = self._terminate, False
        return asked

    def drain(self) -> None:
        """Take the wake-ups."""
        with contextlib.suppress(BlockingIOError):
            while self._ours.recv(4096):
                pass

    def wake(self) -> None:
        """End the loop's wait; a full buffer wakes too."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._theirs.fileno(), b"w")

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self._terminate = True


def _nothing(number: int, frame: FrameType | None) -> None:
    """Only the wake-up matters."""
