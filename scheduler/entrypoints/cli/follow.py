"""Follows a job to its end: progress, changes of state, logs; through retries and through restarts of the control process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from scheduler.entrypoints.cli.common import Session
from scheduler.entrypoints.cli.exits import ExitCode
from scheduler.entrypoints.cli.jobtext import event_text, newest_attempt
from scheduler.entrypoints.cli.progress import ProgressDisplay, open_display
from trimtab.client import Client
from trimtab.errors import NotFoundError, UnavailableError
from trimtab.job import JOB_ENDS, JobState
from trimtab.lifecycle import AttemptState
from trimtab.views import EventView, JobView

T = TypeVar("T")

_TERMINAL_TICK_S = 0.25
_PLAIN_TICK_S = 1.0
_LOG_TICK_S = 0.3
_MIN_TICK_S = 0.1
_LOST_PATIENCE_S = 120.0
_TAIL_LINES = 20
_TAIL_PIECE_BYTES = 4 << 20

_SPOKEN = frozenset(
    {
        "Assigned",
        "Ready",
        "StopRequested",
        "LostSight",
        "SeenAgain",
        "Exited",
        "ProvenDead",
        "CheckpointRolledBack",
        "Hopeless",
        "IntentChanged",
    }
)


@dataclass(slots=True)
class _RankLog:
    """How far the log of one rank was printed."""

    offset: int = 0
    broken_line: bool = False


@dataclass(slots=True)
class Follower:
    """One job on its way. ``show_logs``: what the ranks print goes to stdout, marked by rank where there are several."""

    session: Session
    client: Client
    job_id: str
    show_logs: bool = False
    deadline_s: float | None = None
    quiet: bool = False
    _after: int = 0
    _attempt: int = 0
    _logs: dict[int, _RankLog] = field(default_factory=dict)

    def follow(self) -> JobView:
        """The view of the ended job. TimeoutError at the deadline and KeyboardInterrupt on Ctrl-C leave the job running."""
        display = open_display(self.session.console)
        tick_s = _LOG_TICK_S if self.show_logs else _TERMINAL_TICK_S if self.session.console.err_is_terminal else _PLAIN_TICK_S
        try:
            while True:
                began_s = time.monotonic()
                view = self._turn(display, tick_s)
                if view.state in JOB_ENDS:
                    return view
                if self.deadline_s is not None and time.monotonic() > self.deadline_s:
                    raise TimeoutError
                time.sleep(max(0.0, _MIN_TICK_S - (time.monotonic() - began_s)))
        finally:
            display.close()

    def _turn(self, display: ProgressDisplay, tick_s: float) -> JobView:
        for event in self._call(display, lambda client: client.events(after=self._after, job=self.job_id, wait_s=tick_s)):
            self._after = event.number
            self._say(display, event)
        view = self._call(display, lambda client: client.job(self.job_id))
        if self.show_logs:
            self._call(display, lambda client: self._pump(client, view, display))
        elif not self.quiet:
            display.show(view)
        return view

    def _call(self, display: ProgressDisplay, call: Callable[[Client], T]) -> T:
        """Ask; when the control process is gone, start it again and ask again."""
        give_up_s = time.monotonic() + _LOST_PATIENCE_S
        while True:
            try:
                return call(self.client)
            except UnavailableError as error:
                if time.monotonic() > give_up_s:
                    raise
                display.note(f"the control process is gone ({error}); starting it again, the job goes on meanwhile")
                time.sleep(0.5)
            try:
                self.client = self.session.connect()
                display.note("reattached")
            except UnavailableError as error:
                display.note(str(error))

    def _say(self, display: ProgressDisplay, event: EventView) -> None:
        if self.quiet or event.kind not in _SPOKEN:
            return
        text = event_text(event)
        if event.kind == "Assigned" and event.attempt is not None and event.attempt.number > 1:
            step = self._call(display, lambda client: client.job(self.job_id)).checkpoint_step
            text += f"; it goes on from the checkpoint of step {step:,}" if step is not None else "; it starts from the beginning"
        if event.kind == "Exited" and event.body.get("reason") == "completed":
            return
        display.note(f"{event.at.astimezone():%H:%M:%S}  {text}")

    def _pump(self, client: Client, view: JobView, display: ProgressDisplay) -> None:
        """Print what the ranks wrote since the last time."""
        newest = newest_attempt(view)
        if newest is None or newest.state is AttemptState.STARTING:
            return  # only when all ranks run is it known how many logs there are, and so whether they need marks
        if newest.ref.number != self._attempt:
            if self._attempt:
                self._drain(client, self._attempt)
            self._attempt, self._logs = newest.ref.number, {}
        self._drain(client, self._attempt)

    def _drain(self, client: Client, attempt: int) -> None:
        ranks = [rank for rank in client.log_ranks(self.job_id, attempt=attempt) if rank >= 0]
        for rank in ranks:
            log = self._logs.setdefault(rank, _RankLog())
            while True:
                data, offset, _ = client.log(self.job_id, rank=rank, attempt=attempt, offset=log.offset)
                if not data:
                    break
                log.offset = offset
                write_log(data, mark=f"[{rank}] " if len(ranks) > 1 else "", log=log)


def write_log(data: bytes, *, mark: str, log: _RankLog) -> None:
    """Bytes of a log to stdout, each line behind ``mark``; lines stay whole across pieces."""
    out = sys.stdout.buffer
    if not mark:
        out.write(data)
    else:
        for line in data.splitlines(keepends=True):
            out.write(line if log.broken_line else mark.encode() + line)
            log.broken_line = not line.endswith(b"\n")
    out.flush()


def detach_lines(view_id: str, name: str) -> list[str]:
    """What Ctrl-C says."""
    return [
        f"detached: {name} ({view_id}) goes on",
        f"  follow again   trimtab wait {view_id}",
        f"  its output     trimtab logs -f {view_id}",
        f"  stop it        trimtab cancel {view_id}",
    ]


def failure_lines(client: Client, view: JobView) -> list[str]:
    """The last log lines of the rank that failed in the newest attempt."""
    attempt = newest_attempt(view)
    if attempt is None:
        return []
    exits = [e for e in client.events(after=0, job=str(view.id)) if e.kind == "Exited" and e.attempt == attempt.ref]
    rank = exits[-1].body.get("rank") if exits else None
    number = rank if isinstance(rank, int) else 0
    try:
        text = _tail(client, str(view.id), rank=number, attempt=attempt.ref.number)
    except NotFoundError:
        return []
    if not text:
        return []
    return [
        f"last lines of rank {number}, try {attempt.ref.number} (trimtab logs {view.id} --rank {number} has all):",
        *(f"  {line}" for line in text),
    ]


def _tail(client: Client, job: str, *, rank: int, attempt: int) -> list[str]:
    offset, kept = 0, b""
    while True:
        data, offset, _ = client.log(job, rank=rank, attempt=attempt, offset=offset, limit=_TAIL_PIECE_BYTES)
        if not data:
            return kept.decode(errors="replace").splitlines()[-_TAIL_LINES:]
        kept = (kept + data)[-_TAIL_PIECE_BYTES:]


def exit_code_of_program(client: Client, view: JobView) -> int | None:
    """The exit code that the program itself ended with, where its agent reported one."""
    attempt = newest_attempt(view)
    if attempt is None:
        return None
    for event in reversed(client.events(after=0, job=str(view.id))):
        if event.kind == "Exited" and event.attempt == attempt.ref:
            code = event.body.get("exit_code")
            return code if isinstance(code, int) else None
    return None


def code_of_end(view: JobView) -> ExitCode:
    """Exit code of a command that waited for this job."""
    return ExitCode.OK if view.state is JobState.SUCCEEDED else ExitCode.JOB_FAILED
