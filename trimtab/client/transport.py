"""One HTTP request over a unix socket or HTTPS, with the standard library's http.client."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from trimtab.errors import UnavailableError

DEFAULT_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A whole answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def local_address(environment: Mapping[str, str] | None = None) -> str:
    """Address of this user's control process: ``unix:`` and the socket in the state folder."""
    values = os.environ if environment is None else environment
    home = values.get("TRIMTAB_HOME")
    if home:
        folder = Path(home).expanduser().absolute()
    else:
        state = values.get("XDG_STATE_HOME")
        base = Path(state) if state and Path(state).is_absolute() else Path.home() / ".local" / "state"
        folder = base / "trimtab"
    return f"unix:{folder / 'control.sock'}"


class Transport:
    """Requests to one address: ``unix:/path/control.sock`` or ``https://host:port``.

    A connection per request: the server may be restarted between any two, and a unix socket costs microseconds. ``token`` goes
    out as a bearer token; ``ca_file`` replaces the system's certificate authorities. Plain http is refused: a token would
    travel in the clear.
    """

    def __init__(self, address: str, *, token: str | None = None, ca_file: str | None = None) -> None:
        self.address = address
        self._token = token
        self._unix_path = ""
        self._context: ssl.SSLContext | None = None
        if address.startswith("unix:"):
            self._unix_path = address.removeprefix("unix:")
            return
        parts = urlsplit(address)
        if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"{address!r} is no address; allowed: unix:/path/to/control.sock or https://host:port")
        self._context = ssl.create_default_context(cafile=ca_file)
        self._host, self._port = parts.hostname, parts.port or 443

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Response:
        """Send one request and read the whole answer. Raises UnavailableError when the server cannot be reached or goes away."""
        connection = self._connect(timeout_s)
        try:
            connection.request(method, path, body=body, headers=self._headers(body, headers))
            answer = connection.getresponse()
            return Response(status=answer.status, headers=_lower(answer), body=answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"{self.address}: the connection broke: {_words(error)}") from error
        finally:
            connection.close()

    def stream(self, path: str, *, headers: Mapping[str, str], timeout_s: float) -> Iterator[bytes]:
        """Lines of an open-ended answer, without their ends; ``timeout_s`` bounds the silence between two.

        Raises UnavailableError as ``request``, and http.client.HTTPException never. An answer other than 200 is raised as
        ``StreamRefused``.
        """
        connection = self._connect(timeout_s)
        try:
            connection.request("GET", path, headers=self._headers(None, headers))
            answer = connection.getresponse()
            if answer.status != 200:
                raise StreamRefused(Response(status=answer.status, headers=_lower(answer), body=answer.read()))
            while line := answer.readline():
                yield line.rstrip(b"\r\n")
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"{self.address}: the connection broke: {_words(error)}") from error
        finally:
            connection.close()

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._unix_path:
            connection = _UnixConnection(self._unix_path, timeout_s)
        else:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=_CONNECT_TIMEOUT_S, context=self._context)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise UnavailableError(f"no control process answers at {self.address}: {_words(error)}") from error
        connection.sock.settimeout(timeout_s)
        return connection

    def _headers(self, body: bytes | None, extra: Mapping[str, str] | None) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "trimtab-client", **(extra or {})}
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers


class StreamRefused(Exception):
    """A stream was answered with an error; ``response`` holds it."""

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(f"HTTP {response.status}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_CONNECT_TIMEOUT_S)
        self.sock.connect(self._path)


def _lower(answer: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.getheaders()}


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
