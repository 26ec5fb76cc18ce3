"""The control process from inside: lock, control plane, REST on the unix socket, orderly end."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

from scheduler.adapters.identity.local import LocalIdentity
from scheduler.bootstrap import ControlBundle, build_control
from scheduler.config import ENV_SHARED_SOCKET, Settings, Share
from scheduler.entrypoints.control.identity import remove_identity, write_identity
from scheduler.entrypoints.control.launch import answers
from scheduler.entrypoints.rest.context import RestContext
from scheduler.entrypoints.rest.peer import user_name
from scheduler.entrypoints.rest.server import RestServer, listening, serving_in_thread
from trimtab.client import Client
from trimtab.errors import ConflictError, Problem, SpecError
from trimtab.files import try_lock

_LOG = logging.getLogger("trimtab.server")
_LOCK_PATIENCE_S = 2.0
_PRUNE_EVERY_S = 3600.0


class AlreadyRuns(ConflictError):
    """Another control process holds the lock of this home."""


def serve(settings: Settings, *, version: str, on_ready: Callable[[], None]) -> None:
    """Be the control process until a signal ends it. Running attempts are not touched. Raises AlreadyRuns."""
    with _owned(settings, version=version) as bundle, ExitStack() as stack:
        listeners = [stack.enter_context(listening(settings.home.socket))]
        if settings.share is not None:
            listeners.append(_shared(stack, settings.share))
        RestServer(_context(bundle, settings), version=version, on_ready=on_ready).run(sockets=listeners)


@contextmanager
def hosting(settings: Settings, *, version: str) -> Iterator[None]:
    """Be the control process inside this one, in threads, for as long as the block lasts. Raises AlreadyRuns."""
    with (
        _owned(settings, version=version) as bundle,
        serving_in_thread(_context(bundle, settings), settings.home.socket, version=version),
    ):
        yield


@contextmanager
def _owned(settings: Settings, *, version: str) -> Iterator[ControlBundle]:
    """The lock, the identity and the running loops of this home."""
    home = settings.home
    home.create()
    lock = _lock(settings)
    try:
        identity = write_identity(home, started_at=datetime.now(UTC), version=version)
        bundle = build_control(settings, version=version)
        stop_pruning = threading.Event()
        try:
            bundle.start()
            threading.Thread(target=_prune, args=(bundle, stop_pruning), name="trimtab-prune", daemon=True).start()
            _LOG.info("control process %d of %s, version %s", os.getpid(), home.path, version)
            yield bundle
        finally:
            stop_pruning.set()
            bundle.close()
            remove_identity(home, identity)
            _LOG.info("control process %d ended; running attempts go on", os.getpid())
    finally:
        os.close(lock)


def _lock(settings: Settings) -> int:
    """The lock of the home; a process that is just ending gets a moment to let go of it."""
    end = time.monotonic() + _LOCK_PATIENCE_S
    while (lock := try_lock(settings.home.lock)) is None:
        if time.monotonic() > end:
            raise AlreadyRuns(f"another control process holds {settings.home.lock}")
        time.sleep(0.05)
    return lock


def _shared(stack: ExitStack, share: Share) -> socket.socket:
    """The socket of the group. Raises SpecError where it cannot be made, or where what stands there is not ours to remove."""
    if share.socket.exists() and (not share.socket.is_socket() or answers(Client(f"unix:{share.socket}"))):
        what = "another control process serves there" if share.socket.is_socket() else "there is a file that is no socket"
        message = f"{share.socket}: {what}"
        raise SpecError([Problem(path=ENV_SHARED_SOCKET, message=message, allowed="a path of its own")], source="environment")
    try:
        return stack.enter_context(listening(share.socket, group=share.group))
    except OSError as error:
        message = f"{share.socket} cannot be opened to group {share.group}: {error.strerror}"
        allowed = "a folder that you may write to, and a group that you are in"
        raise SpecError([Problem(path=ENV_SHARED_SOCKET, message=message, allowed=allowed)], source="environment") from error


def _context(bundle: ControlBundle, settings: Settings) -> RestContext:
    identity = LocalIdentity(user_name(os.geteuid()), shared=settings.share is not None)
    return RestContext(service=bundle.plane, metrics=bundle.metrics, user_name=user_name, identity=identity)


def _prune(bundle: ControlBundle, stop: threading.Event) -> None:
    while not stop.wait(_PRUNE_EVERY_S):
        try:
            bundle.plane.prune_plans()
        except Exception:
            _LOG.exception("old plans were not deleted; the next try is in an hour")
