"""AgentGateway on a unix socket: JSON calls over HTTP/1.1, from processes of this user only, bounded in size and time."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from scheduler.ports import AgentHandler
from trimtab import wire
from trimtab.errors import ConflictError, FencedError, NotFoundError, StoreError, UnavailableError
from trimtab.orders import (
    ClaimReply,
    ClaimRequest,
    ClaimVerdict,
    PublishReply,
    PublishRequest,
    ReportReply,
    RunReport,
)

MAX_BODY_BYTES = 1 << 20
MAX_CALLS = 64
CALL_LIMIT_S = 10.0
_PEER = struct.Struct("3i")  # struct ucred: process, user, group
_SCHEME = "Bearer "
_LOG = logging.getLogger("trimtab.gateway")


class UnixGateway:
    """See the port. ``path`` is the socket; the folder that it lies in belongs to this user alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """See the port."""
        return f"unix:{self._path}"

    def serve(self, handler: AgentHandler) -> None:
        """See the port. Raises UnavailableError where another process serves this socket."""
        if self._server is not None:
            raise UnavailableError(f"{self._path} is served already")
        _remove_stale(self._path)
        self._server = _Server(str(self._path), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="agent-gateway", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """See the port; calls that run are ended within their limit."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._server.server_close()
        self._server = None


def _remove_stale(path: Path) -> None:
    """A socket file outlives a killed process; one that answers does not belong to a dead one."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise UnavailableError(f"another process serves {path}")


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: str, handler: AgentHandler) -> None:
        self.handler = handler
        self._socket_path = path
        self._free = threading.BoundedSemaphore(MAX_CALLS)
        super().__init__(path, _Call)

    def server_bind(self) -> None:
        super().server_bind()
        os.chmod(self._socket_path, 0o600)  # before it listens, so before anybody can connect

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Only this user's processes, whatever the rights of the file say."""
        credentials = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _, user, _ = _PEER.unpack(credentials)
        if user != os.geteuid():
            _LOG.warning("a process of user %d called the agents' socket: refused", user)
        return bool(user == os.geteuid())

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread per call, a bounded number; an agent that finds none free tries again later."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _LOG.info("a call was not finished", exc_info=True)


class _UntilDeadline(io.RawIOBase):
    """Reads a socket until a moment: a caller that sends a byte now and then cannot hold a thread for ever."""

    def __init__(self, connection: socket.socket, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the call took too long")
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


class _Call(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_UntilDeadline(self.connection, time.monotonic() + CALL_LIMIT_S))

    def do_POST(self) -> None:
        self.close_connection = True
        try:
            body = self._body()
            status, reply = (HTTPStatus.OK, self._answer(body)) if isinstance(body, bytes) else body
        except TimeoutError:
            status, reply = HTTPStatus.REQUEST_TIMEOUT, "the call took too long"
        self._send(status, reply)

    def _body(self) -> bytes | tuple[HTTPStatus, str]:
        """The body, or why there is none."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return HTTPStatus.LENGTH_REQUIRED, "Content-Length must be a number of bytes"
        if int(length) > MAX_BODY_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY_BYTES} bytes"
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return HTTPStatus.BAD_REQUEST, f"{len(body)} bytes of {length} arrived"
        return body

    def _answer(self, body: bytes) -> object:
        authorization = self.headers.get("Authorization", "")
        route = _ROUTES.get(self.path)
        if route is None:
            return _Refusal(HTTPStatus.NOT_FOUND, f"no such call: {self.path[:200]!r}; there are {', '.join(_ROUTES)}")
        if not authorization.startswith(_SCHEME):
            return _Refusal(HTTPStatus.UNAUTHORIZED, "Authorization: Bearer <credential> is missing")
        try:
            return route(self.server.handler, body, authorization.removeprefix(_SCHEME))
        except (wire.WireError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            return _Refusal(HTTPStatus.BAD_REQUEST, f"the body does not fit: {error}")
        except (NotFoundError, ConflictError) as error:
            return _Refusal(HTTPStatus.CONFLICT, str(error))
        except (StoreError, UnavailableError) as error:
            return _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except Exception:
            # A fault of the control plane is told as one, so that the agent repeats the call; the run goes on meanwhile.
            _LOG.exception("a call of an agent failed")
            return _Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the control plane failed; its log says why")

    def _send(self, status: HTTPStatus, reply: object) -> None:
        if isinstance(reply, _Refusal):
            status, reply = reply.status, reply.detail
        text = json.dumps({"detail": reply}) if isinstance(reply, str) else wire.dumps(reply)
        data = text.encode()
        self.connection.settimeout(CALL_LIMIT_S)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        _LOG.debug(format, *args)


class _Refusal:
    def __init__(self, status: HTTPStatus, detail: str) -> None:
        self.status = status
        self.detail = detail


def _claim(handler: AgentHandler, body: bytes, credential: str) -> ClaimReply:
    try:
        return handler.claim(wire.loads(ClaimRequest, body), credential)
    except FencedError as error:
        return ClaimReply(verdict=ClaimVerdict.REFUSED, detail=str(error))


def _report(handler: AgentHandler, body: bytes, credential: str) -> ReportReply:
    try:
        return handler.report(wire.loads(RunReport, body), credential)
    except FencedError:
        return ReportReply(fenced=True)


def _publish(handler: AgentHandler, body: bytes, credential: str) -> PublishReply:
    request = wire.loads(PublishRequest, body)
    try:
        return PublishReply(accepted=handler.publish_checkpoint(request.attempt, request.note, credential))
    except FencedError:
        return PublishReply(accepted=False)


_ROUTES: dict[str, Callable[[AgentHandler, bytes, str], object]] = {
    "/agent/v1/claim": _claim,
    "/agent/v1/report": _report,
    "/agent/v1/checkpoint": _publish,
}
