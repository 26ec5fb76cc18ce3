"""Proof of life and death of an attempt on this machine. Nobody is called dead here without a proof.

The agent's lock is held from before its process exists until it ends, so a free lock proves that no agent lives: no clock is in
this proof, and no race. What the ranks left running is found by two marks that are inherited: environment and family lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from scheduler.ports import Sight
from trimtab import processes, wire
from trimtab.attempt_files import (
    AGENT_FILE,
    AGENT_LOCK,
    CHECKPOINT_FILE,
    EXIT_FILE,
    FAMILY_LOCK,
    SPAWNED_FILE,
    AgentRecord,
)
from trimtab.files import try_lock
from trimtab.ids import AttemptRef
from trimtab.orders import ENV_ATTEMPT, ENV_ATTEMPT_DIR, CheckpointNote, ReportKind, RunReport
from trimtab.processes import ProcessIdentity

_KILL_FOR_S = 0.5
_LAST_SEQUENCE = 2**53 - 1  # behind every report that the agent can have sent itself
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at an attempt showed. ``agent`` is the agent's process where it is known."""

    sight: Sight
    detail: str = ""
    agent: ProcessIdentity | None = None


def look(folder: Path, attempt: AttemptRef) -> Look:
    """Look once; kills what a dead agent's ranks left running. Raises OSError, ValueError for files that cannot be read."""
    lock = try_lock(folder / AGENT_LOCK, create=False)
    agent = agent_process(folder)
    if lock is None and not _lock_is_a_stray(folder, agent):
        return _alive(folder, agent)
    try:
        if agent is None:
            if (folder / EXIT_FILE).exists():
                return Look(sight=Sight.DEAD, detail="it was ended before its agent was started")
            return Look(sight=Sight.UNSEEN, detail="it is ordered, and its agent was never started")
        if agent.boot_id != processes.boot_id():
            return Look(sight=Sight.DEAD, detail="the machine was started again since", agent=agent)
        return _end_family(folder, attempt, agent)
    finally:
        if lock is not None:
            os.close(lock)


def agent_process(folder: Path) -> ProcessIdentity | None:
    """Which process the agent is or was: by its own word, else by the executor's; None if none was ever started."""
    record = read(folder / AGENT_FILE, AgentRecord)
    return record.process if record is not None else read(folder / SPAWNED_FILE, ProcessIdentity)


def last_report(folder: Path, attempt: AttemptRef, at: datetime) -> RunReport | None:
    """What a dead attempt left: its exit report, else the newest checkpoint that it had announced."""
    report = read(folder / EXIT_FILE, RunReport)
    if report is not None:
        return report
    note = read(folder / CHECKPOINT_FILE, CheckpointNote)
    if note is None:
        return None
    return RunReport(attempt=attempt, sequence=_LAST_SEQUENCE, kind=ReportKind.CHECKPOINT, at=at, checkpoint=note)


def read(path: Path, cls: type[T]) -> T | None:
    """A document, or None if there is no such file. Raises ValueError where it does not fit the type."""
    try:
        return wire.loads(cls, path.read_bytes())
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} holds no JSON: {error}") from error


def _alive(folder: Path, agent: ProcessIdentity | None) -> Look:
    if agent is None:
        return Look(sight=Sight.ALIVE, detail="its agent is starting")
    found = processes.stat(agent.pid)
    if not processes.lives(agent):
        return Look(sight=Sight.UNSEEN, detail=f"{folder / AGENT_LOCK} is locked by a process that cannot be seen from here")
    stopped = found is not None and found.state in "Tt"
    return Look(
        sight=Sight.ALIVE, detail=f"its agent, process {agent.pid}, is stopped by a signal" if stopped else "", agent=agent
    )


def _lock_is_a_stray(folder: Path, agent: ProcessIdentity | None) -> bool:
    """Whether the agent is gone and its lock is only held by processes of ours that inherited the descriptor by accident.

    A lock that nobody here holds is held from where this process cannot look (another container), so it still counts.
    """
    if agent is None or agent.boot_id != processes.boot_id() or processes.lives(agent):
        return False
    return bool(processes.holders(str(folder / AGENT_LOCK)))


def _end_family(folder: Path, attempt: AttemptRef, agent: ProcessIdentity) -> Look:
    """The agent is dead: end what its ranks left, and only when nothing is left say so."""
    give_up_at_s = time.monotonic() + _KILL_FOR_S
    while True:
        left, proven = _family(folder, attempt)
        if not left and proven:
            return Look(sight=Sight.DEAD, detail="no process of it is left", agent=agent)
        for identity in left:
            with contextlib.suppress(PermissionError):
                processes.send(identity, signal.SIGKILL)
        if time.monotonic() > give_up_at_s:
            names = ", ".join(str(identity.pid) for identity in left) or "of another user"
            detail = f"its agent is dead, its processes ({names}) are not, though they were killed"
            return Look(sight=Sight.UNSEEN, detail=detail, agent=agent)
        time.sleep(0.01)


def _family(folder: Path, attempt: AttemptRef) -> tuple[Sequence[ProcessIdentity], bool]:
    """Living processes of the attempt beside its agent, and whether the family lock proves that there is no other."""
    found = list(processes.marked({ENV_ATTEMPT: str(attempt), ENV_ATTEMPT_DIR: str(folder)}))
    try:
        family = try_lock(folder / FAMILY_LOCK, create=False)
    except FileNotFoundError:
        return found, True  # the agent ended before it could start a rank
    if family is None:
        return [*found, *processes.holders(str(folder / FAMILY_LOCK))], False
    os.close(family)
    return found, True
