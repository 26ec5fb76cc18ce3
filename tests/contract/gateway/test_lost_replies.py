"""Replies that get lost after the call took effect: an agent repeats it as it was, and nothing happens twice."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.attempts import FAST, Place, place_at, wait_for
from trimtab.lifecycle import ReleaseReason
from trimtab.orders import ReportKind


class LossyProxy(socketserver.ThreadingUnixStreamServer):
    """Passes each call on, and throws away some of the answers: the handler has acted, the agent cannot know."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path, target: Path, *, loss_frac: float, seed: int) -> None:
        self.target = target
        self.loss_frac = loss_frac
        self.random = random.Random(seed)
        self.num_lost = 0
        self.guard = threading.Lock()
        super().__init__(str(path), _Pass)


class _Pass(socketserver.BaseRequestHandler):
    server: LossyProxy

    def handle(self) -> None:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as onward:
            onward.connect(str(self.server.target))
            onward.sendall(_whole_request(self.request))
            answer = b""
            while chunk := onward.recv(1 << 16):
                answer += chunk
        with self.server.guard:
            lost = self.server.random.random() < self.server.loss_frac
            self.server.num_lost += lost
        if not lost:
            self.request.sendall(answer)


def _whole_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(1 << 16)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with place_at(tmp_path, dataclasses.replace(FAST, tell_for_s=20.0, beat_s=0.02)) as made:
        yield made


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_agent_repeats_until_it_is_answered_and_nothing_takes_effect_twice(place: Place, tmp_path: Path, seed: int) -> None:
    proxy = LossyProxy(tmp_path / "lossy.sock", place.home.agents_socket, loss_frac=0.5, seed=seed)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
    thread.start()
    try:
        order = dataclasses.replace(place.order("sleep", "2", num_ranks=2), address=f"unix:{tmp_path / 'lossy.sock'}")
        place.executor.start(order)
        place.until_dead()
        wait_for(lambda: ReportKind.EXITED in place.desk.kinds())
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
    desk = place.desk
    assert proxy.num_lost > 0
    assert len({claim.agent for claim in desk.claims}) == 1
    assert desk.kinds() == [ReportKind.READY, ReportKind.EXITED]
    assert desk.exit().reason is ReleaseReason.COMPLETED
    assert [r.sequence for r in desk.reports] == list(range(1, len(desk.reports) + 1)), "none was left out"
    by_number = {r.sequence: r for r in desk.calls}
    assert all(by_number[r.sequence] == r for r in desk.calls), "a repeated report is the same report"
    assert len(desk.calls) + len(desk.claims) > len(desk.reports) + 1, "some were repeated"
