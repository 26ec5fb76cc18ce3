"""The planner in a process of its own: a hang is killed, a crash is an outcome, and neither reaches the loop."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

import scheduler
from scheduler.ports import PlanOutcome, PlanOutcomeKind
from trimtab import wire
from trimtab.errors import NotFoundError, SolverError
from trimtab.plan import Plan, PlanningProblem

_LOG = logging.getLogger("trimtab.planner")
_MODULE = "scheduler.adapters.planner.child"
_OVER_LIMIT = 1.5
_KEPT = 1000
_TAIL_BYTES = 2000


class _Gone(Exception):
    """The child ended; ``str`` says how."""


class _Child:
    """One planner process and the threads that feed and read it, so that neither a full nor an empty pipe can block us."""

    def __init__(self, *, memory_limit_bytes: int) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        root = str(Path(next(iter(scheduler.__path__))).parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, "--memory-limit-bytes", str(memory_limit_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        self._out: SimpleQueue[bytes | None] = SimpleQueue()
        self._in: SimpleQueue[bytes | None] = SimpleQueue()
        threading.Thread(target=self._read, name="trimtab-planner-read", daemon=True).start()
        threading.Thread(target=self._feed, name="trimtab-planner-feed", daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._out.put(line)
        self._out.put(None)

    def _feed(self) -> None:
        assert self.process.stdin is not None
        try:
            while (line := self._in.get()) is not None:
                self.process.stdin.write(line)
                self.process.stdin.flush()
            self.process.stdin.close()
        except OSError:
            return  # the child is gone: its reader tells

    def send(self, line: bytes) -> None:
        """Give the child a line; returns at once."""
        self._in.put(line)

    def receive(self, timeout_s: float) -> Any:
        """The next answer. Raises TimeoutError, or _Gone where the child ended."""
        try:
            line = self._out.get(timeout=timeout_s)
        except Empty:
            raise TimeoutError from None
        if line is None:
            code = self.process.wait()
            raise _Gone(f"the planner process ended with {_code(code)}{self._tail()}")
        return json.loads(line)

    def _tail(self) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _TAIL_BYTES))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def kill(self) -> None:
        """End it, at once and for good."""
        self._in.put(None)
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()


class ProcessPlanner:
    """PlannerRunner over one long-lived child. A round that takes over 1.5 times its time limit is killed with its process.

    ``start_s`` bounds the start of the child (imports), which is not part of any round. Thread-safe.
    """

    def __init__(self, *, memory_limit_bytes: int = 8 * 2**30, start_s: float = 60.0) -> None:
        self._memory_limit_bytes = memory_limit_bytes
        self._start_s = start_s
        self._lock = threading.Lock()
        self._problems: SimpleQueue[tuple[str, PlanningProblem] | None] = SimpleQueue()
        self._waiting: set[str] = set()
        self._done: OrderedDict[str, PlanOutcome] = OrderedDict()
        self._num_tickets = 0
        self._closed = False
        self._child: _Child | None = None
        self._thread = threading.Thread(target=self._work, name="trimtab-planner", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Process id of the child, None between two children."""
        child = self._child
        return child.process.pid if child is not None else None

    def submit(self, problem: PlanningProblem) -> str:
        """See the port."""
        with self._lock:
            if self._closed:
                raise SolverError("the planner is closed")
            self._num_tickets += 1
            ticket = f"round-{self._num_tickets}"
            self._waiting.add(ticket)
            self._problems.put((ticket, problem))
        return ticket

    def poll(self, ticket: str) -> PlanOutcome | None:
        """See the port."""
        with self._lock:
            if ticket in self._waiting:
                return None
            if ticket not in self._done:
                raise NotFoundError(f"no planning ticket {ticket!r}")
            return self._done[ticket]

    def close(self) -> None:
        """See the port. Rounds that still wait end as CRASHED."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._problems.put(None)
            child = self._child
        if child is not None:
            child.process.kill()
        self._thread.join()

    # ------------------------------------------------------------------------------------------------- the worker thread

    def _work(self) -> None:
        self._ensure_child()
        while (entry := self._problems.get()) is not None:
            ticket, problem = entry
            self._finish(self._round(ticket, problem))
        if self._child is not None:
            self._child.kill()
            self._child = None
        with self._lock:
            rest = sorted(self._waiting)
        for ticket in rest:
            self._finish(PlanOutcome(ticket=ticket, kind=PlanOutcomeKind.CRASHED, detail="the planner is closed"))

    def _finish(self, outcome: PlanOutcome) -> None:
        with self._lock:
            self._waiting.discard(outcome.ticket)
            self._done[outcome.ticket] = outcome
            while len(self._done) > _KEPT:
                self._done.popitem(last=False)

    def _ensure_child(self) -> str | None:
        """Have a child that is ready. Returns why there is none."""
        if self._child is not None and self._child.process.poll() is None:
            return None
        self._drop_child()
        try:
            self._child = _Child(memory_limit_bytes=self._memory_limit_bytes)
            self._child.receive(self._start_s)
            return None
        except TimeoutError:
            why = f"the planner process was not ready within {self._start_s:.0f} s"
        except (_Gone, OSError, ValueError) as error:
            why = str(error)
        self._drop_child()
        _LOG.warning("%s", why)
        return why

    def _drop_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _round(self, ticket: str, problem: PlanningProblem) -> PlanOutcome:
        if self._closed:
            return PlanOutcome(ticket=ticket, kind=PlanOutcomeKind.CRASHED, detail="the planner is closed")
        why = self._ensure_child()
        if why is not None or self._child is None:
            return PlanOutcome(ticket=ticket, kind=PlanOutcomeKind.CRASHED, detail=why or "there is no planner process")
        limit_s = _OVER_LIMIT * problem.time_limit_s
        began_s = time.monotonic()
        try:
            self._child.send(wire.dumps(problem).encode() + b"\n")
            return _outcome(ticket, self._child.receive(limit_s))
        except TimeoutError:
            passed_s = time.monotonic() - began_s
            detail = f"no plan after {passed_s:.1f} s, {_OVER_LIMIT} times its limit of {problem.time_limit_s:g} s"
            _LOG.warning("%s: the planner process is killed", detail)
            outcome = PlanOutcome(ticket=ticket, kind=PlanOutcomeKind.TIMED_OUT, detail=detail)
        except (_Gone, ValueError, TypeError) as error:
            outcome = PlanOutcome(ticket=ticket, kind=PlanOutcomeKind.CRASHED, detail=str(error))
        self._drop_child()
        return outcome


def _outcome(ticket: str, answer: Any) -> PlanOutcome:
    if "plan" in answer:
        return PlanOutcome(ticket=ticket, kind=PlanOutcomeKind.PLANNED, plan=wire.decode(Plan, answer["plan"]))
    if "refused" in answer:
        return PlanOutcome(ticket=ticket, kind=PlanOutcomeKind.REFUSED, detail=str(answer["refused"]))
    return PlanOutcome(ticket=ticket, kind=PlanOutcomeKind.CRASHED, detail=str(answer.get("failed", answer)))


def _code(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
