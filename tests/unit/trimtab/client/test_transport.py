"""Addresses, TLS, tokens and broken servers, on real sockets; errors to problem documents and back."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from trimtab import errors
from trimtab.client import Client, Transport, error_of_problem, problem_of_error
from trimtab.client.problems import pointer
from trimtab.errors import Problem, TrimtabError, UnavailableError


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.seen.append(dict(self.headers))
        body = b"<html>a proxy's page</html>" if self.path == "/v1/status" else json.dumps({"path": self.path}).encode()
        self.send_response(502 if self.path == "/v1/status" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """A real TLS server with a certificate of its own for localhost."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_address[1]}", certificate
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_https_carries_the_token_and_checks_the_certificate(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (address, certificate):
        answer = Transport(address, token="secret", ca_file=str(certificate)).request("GET", "/x")
        assert json.loads(answer.body) == {"path": "/x"}
        assert Handler.seen[-1]["Authorization"] == "Bearer secret"
        with pytest.raises(UnavailableError, match="certificate"):
            Transport(address, token="secret").request("GET", "/x")
        with pytest.raises(TrimtabError, match="answered 502: <html>"):
            Client(address, ca_file=str(certificate)).status()


@pytest.mark.parametrize("address", ["http://localhost:1", "localhost:1", "https://", "https://h/path", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="allowed: unix:"):
        Transport(address)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", b"not http at all\r\n\r\n"])
def test_a_server_that_dies_in_the_middle_is_unavailable(answer: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(UnavailableError, match="connection broke"):
        Transport(f"unix:{path}").request("GET", "/")
    thread.join()
    listener.close()


EVERY_ERROR = [
    errors.SpecError([Problem(path="a.b[0]", message="bad", line=3, column=4, allowed="x", nearest="'y'")], source="job.yaml"),
    errors.InfeasibleError("no", reasons=("one", "two")),
    errors.NotFoundError("none"),
    errors.FencedError("old"),
    errors.ConflictError("late"),
    errors.AuthenticationError("who"),
    errors.UnknownOutcome("maybe"),
    errors.StoreError("down"),
    errors.UnavailableError("gone"),
    errors.SolverError("stuck"),
    errors.ExecutorError("failed"),
    errors.CheckpointError("torn"),
    errors.InstallationError("mixed"),
    errors.TrimtabError("other"),
]


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
def test_every_error_survives_the_journey(error: TrimtabError) -> None:
    body = json.loads(json.dumps(problem_of_error(error, request_id="req_1")))
    back = error_of_problem(body, status=body["status"])
    assert type(back) is type(error)
    assert str(back) == str(error)
    if isinstance(error, errors.SpecError):
        assert isinstance(back, errors.SpecError)
        assert back.problems == error.problems
    if isinstance(error, errors.InfeasibleError):
        assert isinstance(back, errors.InfeasibleError)
        assert back.reasons == error.reasons


def test_every_error_of_the_tree_has_a_row() -> None:
    def below(cls: type[TrimtabError]) -> set[type[TrimtabError]]:
        return {cls}.union(*(below(child) for child in cls.__subclasses__() if child.__module__ == "trimtab.errors"))

    assert {type(error) for error in EVERY_ERROR} == below(TrimtabError)


def test_a_problem_of_another_make_is_read_by_its_status() -> None:
    assert isinstance(error_of_problem({"title": "x"}, status=404), errors.NotFoundError)
    assert isinstance(error_of_problem({"detail": "x"}, status=409), errors.ConflictError)
    assert isinstance(error_of_problem({"detail": "x"}, status=403), errors.AuthenticationError)
    assert type(error_of_problem({}, status=500)) is TrimtabError


def test_pointers() -> None:
    assert pointer("pools[0].offers[1].price") == "/pools/0/offers/1/price"
    assert pointer("a/b.c~d") == "/a~1b/c~0d"
    assert pointer("") == ""
