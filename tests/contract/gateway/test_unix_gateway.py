"""What the agents' gateway promises, on a real socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scheduler.adapters.local import gateway
from scheduler.adapters.local.gateway import MAX_BODY_BYTES, MAX_CALLS, UnixGateway
from tests.support.attempts import CREDENTIAL, Desk, wait_for
from trimtab.errors import FencedError, NotFoundError, StoreError, TrimtabError, UnavailableError
from trimtab.ids import AttemptRef, UnitId
from trimtab.orders import (
    CheckpointNote,
    ClaimRequest,
    ClaimVerdict,
    PublishReply,
    PublishRequest,
    ReportKind,
    ReportReply,
    RunReport,
)
from workers.agent.client import GatewayAway, GatewayClient, GatewayRefusal

ATTEMPT = AttemptRef(unit_id=UnitId("job_x.u0"), number=3)
NOTE = CheckpointNote(path="/c", step=1, manifest_sha256="0" * 64, num_bytes=1, save_s=0.5)
CLAIM = ClaimRequest(attempt=ATTEMPT, agent="host/boot/1/2")


def report(sequence: int = 1) -> RunReport:
    return RunReport(attempt=ATTEMPT, sequence=sequence, kind=ReportKind.READY, at=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.sock"


@pytest.fixture
def served(path: Path, desk: Desk) -> Iterator[UnixGateway]:
    made = UnixGateway(path)
    made.serve(desk)
    yield made
    made.close()


@pytest.fixture
def client(served: UnixGateway) -> GatewayClient:
    return GatewayClient(address=served.address, credential=CREDENTIAL, timeout_s=5)


def test_the_three_calls_reach_the_handler_and_their_answers_come_back(client: GatewayClient, desk: Desk) -> None:
    assert client.claim(CLAIM).verdict is ClaimVerdict.GRANTED
    desk.reply = ReportReply(stop=True, grace_s=2.5, checkpoint_now=True)
    assert client.report(report()) == desk.reply
    desk.accepts = False
    assert client.publish(PublishRequest(attempt=ATTEMPT, note=NOTE)) == PublishReply(accepted=False)
    assert (desk.claims, desk.reports, desk.published) == ([CLAIM], [report()], [NOTE])


def test_only_this_user_may_open_the_socket(served: UnixGateway, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert served.address == f"unix:{path}"


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's process can only be made by root")
def test_another_users_process_is_refused_even_where_the_file_lets_it_in(served: UnixGateway, path: Path, desk: Desk) -> None:
    for folder in [path.parent, *path.parent.parents][:-2]:
        folder.chmod(folder.stat().st_mode | 0o755)
    path.chmod(0o666)
    code = """
    import os, socket, sys
    os.setuid(65534)
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    try:
        s.sendall(b"POST /agent/v1/claim HTTP/1.1\\r\\nContent-Length: 0\\r\\nAuthorization: Bearer x\\r\\n\\r\\n")
        print(len(s.recv(100)))
    except OSError:
        print(0)
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", textwrap.dedent(code), str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"
    assert desk.claims == []


def raw(path: Path, request: bytes) -> tuple[int, str]:
    """The status and detail of the answer to exactly these bytes."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(request)
        data = b""
        while chunk := connection.recv(1 << 16):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["detail"] if body.startswith(b"{") else body.decode()


def post(where: str, body: bytes, *, authorization: str = f"Bearer {CREDENTIAL}") -> bytes:
    head = f"POST {where} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nAuthorization: {authorization}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("request_bytes", "status", "says"),
    [
        (post("/agent/v1/nothing", b"{}"), 404, "/agent/v1/claim"),
        (post("/agent/v1/claim", b"{}", authorization="Basic x"), 401, "Bearer"),
        (post("/agent/v1/claim", b"{"), 400, "does not fit"),
        (post("/agent/v1/claim", b"\xff\xfe\x00"), 400, "does not fit"),
        (post("/agent/v1/claim", b"[" * 100_000), 400, "does not fit"),
        (post("/agent/v1/claim", b'{"attempt": {"unit_id": "x"}}'), 400, "ClaimRequest.attempt.number: missing"),
        (b"POST /agent/v1/claim HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 411, "number"),
        (b"POST /agent/v1/claim HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411, "number"),
        (f"POST /agent/v1/claim HTTP/1.1\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode(), 413, "at most"),
        (b"GET / HTTP/1.1\r\n\r\n", 501, ""),
        (b"POST /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414, ""),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(
    served: UnixGateway, path: Path, desk: Desk, request_bytes: bytes, status: int, says: str
) -> None:
    found, detail = raw(path, request_bytes)
    assert found == status
    assert says in detail
    assert desk.claims == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StoreError("the disk is full"), GatewayAway),
        (UnavailableError("not now"), GatewayAway),
        (RuntimeError("a bug"), GatewayAway),
        (NotFoundError("no such attempt"), GatewayRefusal),
    ],
)
def test_a_fault_is_to_be_repeated_and_a_no_is_final(
    client: GatewayClient, desk: Desk, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(desk, "report", fail)
    with pytest.raises(expected) as caught:
        client.report(report())
    assert ("a bug" in str(caught.value)) is False
    if isinstance(error, TrimtabError):
        assert str(error) in str(caught.value)


def test_a_fenced_attempt_is_told_so_by_each_call(client: GatewayClient, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fenced(*_: object) -> None:
        raise FencedError("attempt 4 is the current one")

    for name in ("claim", "report", "publish_checkpoint"):
        monkeypatch.setattr(desk, name, fenced)
    assert client.claim(CLAIM).verdict is ClaimVerdict.REFUSED
    assert client.report(report()).fenced
    assert not client.publish(PublishRequest(attempt=ATTEMPT, note=NOTE)).accepted


def test_a_repeated_report_reaches_the_handler_as_it_was(client: GatewayClient, desk: Desk) -> None:
    client.report(report(7))
    client.report(report(7))
    assert desk.calls == [report(7), report(7)]
    assert desk.reports == [report(7)]


def test_a_slow_caller_is_cut_off_and_disturbs_nobody(
    served: UnixGateway, path: Path, client: GatewayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "CALL_LIMIT_S", 0.5)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as slow:
        slow.settimeout(10)
        slow.connect(str(path))
        for byte in b"POST /agent/v1/claim HTTP/1.1\r\nContent-":
            try:
                slow.sendall(bytes([byte]))
            except BrokenPipeError:
                break
            assert client.report(report()) == ReportReply()
            time.sleep(0.03)
        with contextlib.suppress(ConnectionError):
            assert b"200" not in slow.recv(1000)


def test_more_calls_than_threads_wait_their_turn(served: UnixGateway, path: Path, client: GatewayClient) -> None:
    idle = [socket.socket(socket.AF_UNIX) for _ in range(MAX_CALLS)]
    try:
        for connection in idle:
            connection.connect(str(path))
        wait_for(lambda: _is_away(client), "all threads are taken")
    finally:
        for connection in idle:
            connection.close()
    wait_for(lambda: not _is_away(client), "they are free again")


def _is_away(client: GatewayClient) -> bool:
    try:
        client.report(report())
    except GatewayAway:
        return True
    return False


def test_many_agents_at_once_are_all_heard(client: GatewayClient, desk: Desk) -> None:
    def call(number: int) -> None:
        for _ in range(5):
            while True:
                try:
                    client.claim(ClaimRequest(attempt=ATTEMPT, agent=str(number)))
                except GatewayAway:
                    continue
                break

    threads = [threading.Thread(target=call, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claim.agent for claim in desk.claims) == sorted(str(n) for n in range(20) for _ in range(5))


def test_the_socket_of_a_dead_process_is_taken_over_and_that_of_a_living_is_not(path: Path, desk: Desk) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))
    first, second = UnixGateway(path), UnixGateway(path)
    first.serve(desk)
    with pytest.raises(UnavailableError, match="another process serves"):
        second.serve(desk)
    with pytest.raises(UnavailableError, match="served already"):
        first.serve(desk)
    first.close()
    first.close()
    assert not path.exists()
    second.serve(desk)
    second.close()


def test_nobody_there_is_away(path: Path) -> None:
    client = GatewayClient(address=f"unix:{path}", credential="", timeout_s=1)
    with pytest.raises(GatewayAway):
        client.claim(CLAIM)


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unix:/path only"):
        GatewayClient(address="https://host:1", credential="")
