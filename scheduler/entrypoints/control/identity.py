"""Who the control process of a home is: written by it, read by whoever looks for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime

from scheduler.config import Home
from trimtab.files import write_atomically
from trimtab.processes import ProcessIdentity, identify, lives
from trimtab.wire import WireError, dumps, loads


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlIdentity:
    """The content of ``control.json``."""

    process: ProcessIdentity
    started_at: datetime
    version: str
    address: str


def write_identity(home: Home, *, started_at: datetime, version: str) -> ControlIdentity:
    """Say that this process is the control process. The lock must be held."""
    process = identify(os.getpid())
    assert process is not None, "this process lives"
    identity = ControlIdentity(process=process, started_at=started_at, version=version, address=f"unix:{home.socket}")
    write_atomically(home.identity, dumps(identity).encode())
    return identity


def read_identity(home: Home) -> ControlIdentity | None:
    """The control process of this home if it lives, else None. A stale or torn file counts as none: the lock decides."""
    try:
        identity = loads(ControlIdentity, home.identity.read_bytes())
    except (FileNotFoundError, WireError, ValueError):
        return None
    return identity if lives(identity.process) else None


def remove_identity(home: Home, identity: ControlIdentity) -> None:
    """Take the file away at a clean end, if it is still ours."""
    if read_identity(home) == identity:
        home.identity.unlink(missing_ok=True)
