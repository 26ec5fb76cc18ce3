"""The agent's side of the gateway: three calls, each safe to repeat."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import TypeVar

from trimtab import wire
from trimtab.orders import ClaimReply, ClaimRequest, PublishReply, PublishRequest, ReportReply, RunReport

T = TypeVar("T")
MAX_REPLY_BYTES = 1 << 20


class GatewayAway(Exception):
    """No answer, or none that says anything about the attempt: the call is to be repeated."""


class GatewayRefusal(Exception):
    """The gateway understood and said no (a status from 400 to 499)."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(f"status {status}: {detail}")


class GatewayClient:
    """Calls the gateway at ``unix:/path``. Each call is one connection, so nothing is left over from a gateway that went away."""

    def __init__(self, *, address: str, credential: str, timeout_s: float = 10.0) -> None:
        scheme, _, path = address.partition(":")
        if scheme != "unix" or not path:
            raise ValueError(f"gateway address {address!r}: this agent speaks unix:/path only")
        self._path = path
        self._credential = credential
        self._timeout_s = timeout_s

    def claim(self, request: ClaimRequest) -> ClaimReply:
        """Ask to own the attempt."""
        return self._call("/agent/v1/claim", request, ClaimReply)

    def report(self, report: RunReport) -> ReportReply:
        """Tell how it goes."""
        return self._call("/agent/v1/report", report, ReportReply)

    def publish(self, request: PublishRequest) -> PublishReply:
        """Make a checkpoint the one to resume from."""
        return self._call("/agent/v1/checkpoint", request, PublishReply)

    def _call(self, path: str, body: object, reply: type[T]) -> T:
        connection = _UnixConnection(self._path, self._timeout_s)
        headers = {
            "Authorization": f"Bearer {self._credential}",
            "Content-Type": "application/json",
            "Connection": "close",
        }
        try:
            with contextlib.closing(connection):
                connection.request("POST", path, wire.dumps(body).encode(), headers)
                answer = connection.getresponse()
                text = answer.read(MAX_REPLY_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise GatewayAway(f"{type(error).__name__}: {error}") from error
        if 400 <= answer.status < 500 and answer.status != http.HTTPStatus.TOO_MANY_REQUESTS:
            raise GatewayRefusal(answer.status, text.decode(errors="replace")[:500])
        if answer.status != http.HTTPStatus.OK:
            raise GatewayAway(f"status {answer.status}: {text.decode(errors='replace')[:500]}")
        try:
            return wire.loads(reply, text)
        except (wire.WireError, json.JSONDecodeError) as error:
            raise GatewayAway(f"unreadable reply: {error}") from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._unix_path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(self._unix_path)
