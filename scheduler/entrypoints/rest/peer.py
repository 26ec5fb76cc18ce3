"""Who is at the other end of a unix socket: the kernel says, no token needed."""

from __future__ import annotations

import pwd
import socket
import struct
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class PeerProtocol(H11Protocol):
    """HTTP/1.1 whose requests carry ``peer_uid`` in their scope."""

    def connection_made(self, transport: Any) -> None:
        """Ask the kernel for the peer's user id."""
        super().connection_made(transport)
        self.app = _WithPeer(self.app, peer_uid(transport.get_extra_info("socket")))


class _WithPeer:
    def __init__(self, app: Any, uid: int | None) -> None:
        self._app = app
        self._uid = uid

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["peer_uid"] = self._uid
        await self._app(scope, receive, send)


def peer_uid(connection: socket.socket | None) -> int | None:
    """The user id at the other end of a unix socket; None for any other connection."""
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(data)[1])


def user_name(uid: int | None) -> str:
    """Login name of a user id, or the number where it has none."""
    if uid is None:
        return "unknown"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"
