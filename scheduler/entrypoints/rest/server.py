"""The REST application served by uvicorn on a unix socket, with an end in order."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from scheduler.entrypoints.rest.app import create_app
from scheduler.entrypoints.rest.context import RestContext
from scheduler.entrypoints.rest.peer import PeerProtocol

_DRAIN_S = 3
_BACKLOG = 128


class RestServer(uvicorn.Server):
    """Tells when it listens, and ends its streams before it waits for its connections."""

    def __init__(self, context: RestContext, *, version: str, on_ready: Callable[[], None]) -> None:
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


@contextmanager
def listening(path: Path, *, group: int | None = None) -> Iterator[socket.socket]:
    """A unix socket for its owner alone, or for a group too, gone at the end. The caller makes sure that no other process serves
    there.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        if group is not None:
            os.chown(path, -1, group)
            os.chmod(path, 0o660)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        yield listener
    finally:
        path.unlink(missing_ok=True)
        listener.close()


@contextmanager
def serving_in_thread(context: RestContext, path: Path, *, version: str) -> Iterator[None]:
    """Serve at ``path`` from a thread for as long as the block lasts."""
    ready = threading.Event()
    server = RestServer(context, version=version, on_ready=ready.set)
    with listening(path) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="trimtab-rest", daemon=True)
        thread.start()
        try:
            while not ready.wait(0.02):
                if not thread.is_alive():
                    raise RuntimeError("the REST server did not start; its log says why")
            yield
        finally:
            server.should_exit = True
            thread.join()
