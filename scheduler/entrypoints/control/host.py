"""The control process from inside: lock, control plane, REST on the unix socket, orderly end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import uvicorn

from scheduler.bootstrap import ControlBundle, build_control
from scheduler.config import Settings
from scheduler.entrypoints.control.identity import remove_identity, write_identity
from scheduler.entrypoints.rest.app import create_app
from scheduler.entrypoints.rest.context import RestContext
from scheduler.entrypoints.rest.peer import PeerProtocol, user_name
from trimtab.errors import ConflictError
from trimtab.files import try_lock

_LOG = logging.getLogger("trimtab.server")
_LOCK_PATIENCE_S = 2.0
_DRAIN_S = 3
_PRUNE_EVERY_S = 3600.0


class AlreadyRuns(ConflictError):
    """Another control process holds the lock of this home."""


class _Server(uvicorn.Server):
    """Tells when it listens, and ends its streams before it waits for its connections."""

    def __init__(self, config: uvicorn.Config, *, context: RestContext, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._context = context
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the server in order. Unlike uvicorn's own, this does not raise them again afterwards: there is
        more to close than the server."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; long polls and streams end first."""
        self._context.stopping.set()
        await super().shutdown(sockets=sockets)


def serve(settings: Settings, *, version: str, on_ready: Callable[[], None]) -> None:
    """Be the control process until a signal ends it. Running attempts are not touched. Raises AlreadyRuns."""
    with _owned(settings, version=version) as bundle:
        server, listener = _server(settings, bundle, version=version, on_ready=on_ready)
        try:
            server.run(sockets=[listener])
        finally:
            listener.close()


@contextmanager
def hosting(settings: Settings, *, version: str) -> Iterator[None]:
    """Be the control process inside this one, in threads, for as long as the block lasts. Raises AlreadyRuns."""
    ready = threading.Event()
    with _owned(settings, version=version) as bundle:
        server, listener = _server(settings, bundle, version=version, on_ready=ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="trimtab-rest", daemon=True)
        thread.start()
        try:
            while not ready.wait(0.05):
                if not thread.is_alive():
                    raise RuntimeError("the REST server did not start; its log says why")
            yield
        finally:
            server.should_exit = True
            thread.join()
            listener.close()


@contextmanager
def _owned(settings: Settings, *, version: str) -> Iterator[ControlBundle]:
    """The lock, the identity and the running loops of this home."""
    home = settings.home
    home.create()
    lock = _lock(settings)
    try:
        started_at = datetime.now(UTC)
        identity = write_identity(home, started_at=started_at, version=version)
        bundle = build_control(settings, version=version)
        stop_pruning = threading.Event()
        try:
            bundle.start()
            threading.Thread(target=_prune, args=(bundle, stop_pruning), name="trimtab-prune", daemon=True).start()
            _LOG.info("control process %d of %s, version %s", os.getpid(), home.path, version)
            yield bundle
        finally:
            stop_pruning.set()
            home.socket.unlink(missing_ok=True)
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


def _server(
    settings: Settings, bundle: ControlBundle, *, version: str, on_ready: Callable[[], None]
) -> tuple[_Server, socket.socket]:
    context = RestContext(service=bundle.plane, metrics=bundle.metrics, user_name=user_name)
    config = uvicorn.Config(
        create_app(context, version=version),
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_DRAIN_S,
    )
    return _Server(config, context=context, on_ready=on_ready), _listen(settings)


def _listen(settings: Settings) -> socket.socket:
    """The unix socket, for its owner alone. The lock is ours, so a socket that is there is left over."""
    path = settings.home.socket
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _prune(bundle: ControlBundle, stop: threading.Event) -> None:
    while not stop.wait(_PRUNE_EVERY_S):
        try:
            bundle.plane.prune_plans()
        except Exception:
            _LOG.exception("old plans were not deleted; the next try is in an hour")
