"""Finding the processes that a test run started and left behind.

A run marks its environment with a name of its own. Children inherit the mark, through any number of forks, new
sessions and deaths of parents; whatever carries it at the end was begun by this run and nobody else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A process that outlived its test."""

    pid: int
    started_at_s: float
    command: str
    test: str
    """The test that was running when the process began, as pytest names it; empty when none was."""

    def __str__(self) -> str:
        return f"pid {self.pid}: {self.command or '?'} (begun by {self.test or 'no single test'})"


def find_leftovers(mark: str, value: str, *, grace_s: float) -> Sequence[Leftover]:
    """The living processes whose environment holds `mark=value`, after a grace in which they may end."""
    end_s = time.monotonic() + grace_s
    while True:
        found = [leftover for process in psutil.process_iter() if (leftover := _ours(process, mark, value))]
        if not found or time.monotonic() > end_s:
            return found
        time.sleep(POLL_S)


def _ours(process: psutil.Process, mark: str, value: str) -> Leftover | None:
    if process.pid == os.getpid():
        return None
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        environment = process.environ()
        if environment.get(mark) != value:
            return None
        return Leftover(
            pid=process.pid,
            started_at_s=process.create_time(),
            command=" ".join(process.cmdline())[:200],
            test=environment.get("PYTEST_CURRENT_TEST", ""),
        )
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        # It ended between the two looks, or belongs to another user, and so is not ours.
        return None


def end_all(leftovers: Sequence[Leftover]) -> None:
    """Kill what was left, so that one leak does not disturb the next run; a reused process id is left alone."""
    for leftover in leftovers:
        try:
            process = psutil.Process(leftover.pid)
            if process.create_time() == leftover.started_at_s:
                process.kill()
        except psutil.NoSuchProcess:
            continue
