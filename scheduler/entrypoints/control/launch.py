"""The control process from outside: find, start, stop. Imports nothing heavy; the command line does it before every request."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

from scheduler.config import Home
from scheduler.entrypoints.control.identity import ControlIdentity, read_identity
from trimtab.client import Client
from trimtab.errors import UnavailableError
from trimtab.processes import lives, send

START_PATIENCE_S = 180.0  # a second on an idle machine; much longer on one whose cores are all taken
STOP_PATIENCE_S = 30.0
_MAX_LOG_BYTES = 16 << 20
_LOG_TAIL_LINES = 12

_children: list[subprocess.Popen[bytes]] = []
"""Control processes that this command started: polled, so that a dead one leaves no zombie behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """``fresh``: this call started it; else it ran before."""

    client: Client
    fresh: bool


def client_of(home: Home) -> Client:
    """A client of this home's control process, whether it runs or not."""
    return Client(f"unix:{home.socket}")


def answers(client: Client) -> bool:
    """Does a control process answer there?"""
    try:
        client.status()
    except UnavailableError:
        return False
    return True


def ensure(home: Home) -> Started:
    """The control process of this home, started if none answers. Raises UnavailableError with the end of its log."""
    client = client_of(home)
    if home.socket.exists() and answers(client):
        return Started(client=client, fresh=False)
    home.create()
    fresh = _start(home)
    if not fresh:
        _await_answer(home, client)
    return Started(client=client, fresh=fresh)


def stop(home: Home) -> ControlIdentity | None:
    """End the control process; who it was, or None if none ran. Its attempts go on. UnavailableError if it does not end."""
    identity = read_identity(home)
    if identity is None or not send(identity.process, signal.SIGTERM):
        return None
    end = time.monotonic() + STOP_PATIENCE_S
    while lives(identity.process):
        if time.monotonic() > end:
            raise UnavailableError(
                f"control process {identity.process.pid} did not end in {STOP_PATIENCE_S:.0f} s; see {home.log}"
            )
        time.sleep(0.02)
    reap()
    return identity


def reap() -> None:
    """Collect control processes of ours that died."""
    for child in list(_children):
        if child.poll() is not None:
            _children.remove(child)


def _start(home: Home) -> bool:
    """Start one and wait for its word; False when another one holds the lock (it may not answer yet)."""
    reap()
    _rotate(home)
    ours, theirs = os.pipe()
    # The folder is / and -P keeps it off the module path: a file of the user's named like one of ours must not be imported.
    command = [
        sys.executable,
        "-P",
        "-m",
        "scheduler.entrypoints.control.main",
        "--home",
        str(home.path),
        "--tell-fd",
        str(theirs),
    ]
    log = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        child = subprocess.Popen(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(theirs,),
            env=_environment(home),
        )
    finally:
        os.close(theirs)
        os.close(log)
    _children.append(child)
    try:
        word = _hear(ours)
    finally:
        os.close(ours)
    if word.startswith("ready"):
        return True
    if word.startswith("held"):
        child.wait()
        reap()
        return False
    if not word:
        child.kill()  # silent for so long: what is said below must stay true
    child.wait()
    reap()
    reason = word.removeprefix("failed ") or f"it said nothing in {START_PATIENCE_S:.0f} s or died"
    raise UnavailableError(f"the control process did not start: {reason}\n{_tail(home)}".rstrip())


def _environment(home: Home) -> dict[str, str]:
    """The environment of the process: this one, without the marks of an attempt that we may run inside of."""
    private = ("TRIMTAB_ATTEMPT", "TRIMTAB_ATTEMPT_DIR", "TRIMTAB_REPORT_FD", "TRIMTAB_CONTROL_FD", "TRIMTAB_ORDER_FILE")
    kept = {name: value for name, value in os.environ.items() if name not in private}
    return {**kept, "TRIMTAB_HOME": str(home.path)}


def _hear(handle: int) -> str:
    """The first line of the child; empty when it died or said nothing in time."""
    end = time.monotonic() + START_PATIENCE_S
    data = b""
    while not data.endswith(b"\n"):
        left = end - time.monotonic()
        if left <= 0 or not select.select([handle], [], [], left)[0]:
            break
        piece = os.read(handle, 4096)
        if not piece:
            break
        data += piece
    return data.decode(errors="replace").strip()


def _await_answer(home: Home, client: Client) -> None:
    """Another command is starting it right now: wait until it answers."""
    end = time.monotonic() + START_PATIENCE_S
    while not answers(client):
        if time.monotonic() > end:
            raise UnavailableError(f"a control process holds {home.lock} and does not answer at {home.socket}; see {home.log}")
        time.sleep(0.1)


def _rotate(home: Home) -> None:
    """One old log is kept."""
    try:
        if home.log.stat().st_size > _MAX_LOG_BYTES:
            os.replace(home.log, home.log.with_suffix(".log.1"))
    except FileNotFoundError:
        return


def _tail(home: Home) -> str:
    try:
        lines = home.log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(f"  {home.log.name}: {line}" for line in lines[-_LOG_TAIL_LINES:])
