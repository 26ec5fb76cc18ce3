"""A real control plane over the simulated world, served on a real unix socket."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scheduler.adapters.identity.local import LocalIdentity
from scheduler.entrypoints.rest.context import RestContext
from scheduler.entrypoints.rest.peer import user_name
from scheduler.entrypoints.rest.server import serving_in_thread
from tests.support.kit import Rig
from trimtab.client import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The rig, its socket and a client. ``run`` lets the rig's time pass from this thread."""

    rig: Rig
    path: Path
    client: Client
    context: RestContext


@contextmanager
def served(folder: Path, rig: Rig | None = None, *, metrics: bytes = b"") -> Iterator[Served]:
    """Serve a rig in ``folder`` (short: a unix socket lies in it)."""
    own = rig or Rig()
    path = folder / "c.sock"
    context = RestContext(
        service=own.control, metrics=lambda: metrics, user_name=user_name, identity=LocalIdentity(user_name(os.geteuid()))
    )
    with serving_in_thread(context, path, version="0-test"):
        yield Served(rig=own, path=path, client=Client(f"unix:{path}"), context=context)


@contextmanager
def passing_time(rig: Rig, *, every_s: float = 0.02) -> Iterator[None]:
    """Let the rig's virtual time pass in the background: a second at each turn."""
    stop = threading.Event()

    def turn() -> None:
        while not stop.is_set():
            rig.run(1.0)
            time.sleep(every_s)

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
