"""Who a process is and whether it lives: process id, start time and boot id together, read from Linux's ``/proc``.

A process id alone proves nothing, because ids are used again. The agent and the executor must agree on these questions to the
letter (one writes the identity, the other proves a death by it), so they share this file.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys" / "kernel" / "random" / "boot_id"
_ENDED = frozenset("ZXx")  # zombie and dead: nothing runs any more, only the parent has not looked yet


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """One process for all time: ``start_ticks`` are clock ticks after boot, ``boot_id`` names the boot of the machine."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStat:
    """The part of ``/proc/<pid>/stat`` that is needed here: the state's letter (``T``: stopped, ``Z``: zombie), parent, start."""

    pid: int
    state: str
    parent_pid: int
    start_ticks: int

    @property
    def ended(self) -> bool:
        """Whether it runs nothing any more, though its entry is still there."""
        return self.state in _ENDED


def boot_id() -> str:
    """Changes with each boot of the machine. Raises OSError where the system has none (it is not Linux)."""
    return _BOOT_ID.read_text().strip()


def stat(pid: int) -> ProcessStat | None:
    """What the kernel says of a process now, or None if there is none of that id."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may itself hold parentheses and spaces: the fields begin behind the last one.
    fields = text.rpartition(")")[2].split()
    return ProcessStat(pid=pid, state=fields[0], parent_pid=int(fields[1]), start_ticks=int(fields[19]))


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of the process that has this id now; None if there is none or it has ended."""
    found = stat(pid)
    if found is None or found.ended:
        return None
    return ProcessIdentity(pid=pid, start_ticks=found.start_ticks, boot_id=boot_id())


def lives(identity: ProcessIdentity) -> bool:
    """Whether exactly this process still runs (a stopped one does)."""
    return identify(identity.pid) == identity


def send(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; False if it is gone. The handle comes before the check, so no other can be hit."""
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        if not lives(identity):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def descendants(root: int) -> Sequence[ProcessIdentity]:
    """Every living process below ``root``, as the tree of parents is now."""
    children: dict[int, list[ProcessStat]] = {}
    for pid in _pids():
        found = stat(pid)
        if found is not None:
            children.setdefault(found.parent_pid, []).append(found)
    boot = boot_id()
    out: list[ProcessIdentity] = []
    open_ends = [root]
    while open_ends:
        for child in children.get(open_ends.pop(), []):
            open_ends.append(child.pid)
            if not child.ended:
                out.append(ProcessIdentity(pid=child.pid, start_ticks=child.start_ticks, boot_id=boot))
    return out


def marked(marks: Mapping[str, str]) -> Sequence[ProcessIdentity]:
    """Every living process of this user that began with all these environment variables; itself left out.

    A child inherits them through forks, new sessions and the death of its parents. Processes of other users cannot be read.
    """
    wanted = [f"\0{name}={value}\0".encode() for name, value in marks.items()]
    out = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        try:
            environment = b"\0" + (_PROC / str(pid) / "environ").read_bytes() + b"\0"
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if all(mark in environment for mark in wanted):
            identity = identify(pid)
            if identity is not None:
                out.append(identity)
    return out


def holders(path: str) -> Sequence[ProcessIdentity]:
    """Every living process of this user that has the file open; itself left out."""
    target = os.stat(path)
    out = []
    for pid in _pids():
        if pid != os.getpid() and _has_open(pid, target):
            identity = identify(pid)
            if identity is not None:
                out.append(identity)
    return out


def _has_open(pid: int, target: os.stat_result) -> bool:
    try:
        for entry in os.scandir(_PROC / str(pid) / "fd"):
            try:
                found = entry.stat()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if (found.st_dev, found.st_ino) == (target.st_dev, target.st_ino):
                return True
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return False


def _pids() -> Iterator[int]:
    for name in os.listdir(_PROC):
        if name.isdigit():
            yield int(name)
