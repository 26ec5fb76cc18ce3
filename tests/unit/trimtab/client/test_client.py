"""The SDK against the real API on a real unix socket."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scheduler.adapters.simulated.world import Script
from tests.support.kit import Rig, command_job, inventory, train_job
from tests.support.rest import Served, passing_time, served
from trimtab.client import Client, follow_log, local_address
from trimtab.errors import ConflictError, InfeasibleError, NotFoundError, SpecError, UnavailableError
from trimtab.ids import AttemptRef, JobId, unit_id
from trimtab.inventory import ProbeKernel, ProbePoint, ProbeReport
from trimtab.job import JobState
from trimtab.jobspec import RetryPolicy


@pytest.fixture
def server() -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="tt-") as folder, served(Path(folder)) as found:
        yield found


def test_plan_submit_and_see_the_job(server: Served) -> None:
    client, spec = server.client, train_job()
    plan = client.plan(spec)
    assert client.stored_plan(plan.id) == plan
    view = client.submit(spec, plan_id=plan.id, idempotency_key="k")
    assert client.submit(spec, plan_id=plan.id, idempotency_key="k").id == view.id
    assert view.plan_id == plan.id
    assert [job.id for job in client.jobs()] == [view.id]
    assert client.job(str(view.id)[:-2]).name == "lm"
    server.rig.run(60.0)
    ended = client.job("lm")
    assert ended.state is JobState.SUCCEEDED
    assert ended.progress is not None
    assert client.explain("lm").reason == "succeeded"
    kinds = [event.kind for event in client.events(after=0, job="lm")]
    assert kinds[0] == "Submitted"
    assert "Exited" in kinds
    assert client.status().num_jobs == {"SUCCEEDED": 1}
    assert client.inventory() == server.rig.control.inventory()


def test_errors_come_back_as_they_were_raised(server: Served) -> None:
    client = server.client
    with pytest.raises(InfeasibleError, match="99 devices"):
        client.plan(train_job(devices=99))
    with pytest.raises(NotFoundError, match="no job 'nothing'"):
        client.job("nothing")
    with pytest.raises(NotFoundError, match="no plan"):
        client.submit(command_job(), plan_id="plan_x")
    with pytest.raises(SpecError, match="limit"):
        client.jobs(limit=0)
    job = client.submit(command_job())
    client.cancel(str(job.id))
    with pytest.raises(ConflictError):
        client.resume(str(job.id))
    with pytest.raises(NotFoundError):
        client.vouch_dead(AttemptRef(unit_id=unit_id(JobId("job_x"), 0), number=1))


def test_wishes_change_the_intent(server: Served) -> None:
    job = str(server.client.submit(command_job()).id)
    assert server.client.suspend(job).intent == "SUSPEND"
    assert server.client.resume(job).intent == "RUN"
    assert server.client.cancel(job).intent == "CANCEL"


def test_probe_reports_are_kept(server: Served) -> None:
    point = ProbePoint(
        kernel=ProbeKernel.MATMUL, precision="fp32", shape=(8, 8, 8), num_ranks=1, seconds=1e-6, spread_frac=0.1, repeats=3
    )
    report = ProbeReport(
        fingerprint="f" * 16,
        device_type=inventory().device_types[0],
        num_devices=1,
        points=(point,),
        measured_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    server.client.put_probe(report)
    assert server.client.probes() == (report,)


def test_waiting_for_events_ends_when_something_happens(server: Served) -> None:
    client = server.client
    newest = client.status().last_event
    timer = threading.Timer(0.2, lambda: client.submit(command_job()))
    timer.start()
    found = client.events(after=newest, wait_s=20.0)
    timer.join()
    assert next(event.kind for event in found) == "Submitted"


def test_events_are_followed_from_a_number_on(server: Served) -> None:
    client = server.client
    client.submit(command_job("a"))
    stream = client.follow_events(after=0)
    first = next(stream)
    client.submit(command_job("b"))
    second = next(stream)
    stream.close()
    assert (first.body["name"], second.body["name"]) == ("a", "b")
    with pytest.raises(NotFoundError):
        next(client.follow_events(job="nothing"))


def test_a_log_is_followed_through_queueing_and_a_retry(server: Served) -> None:
    rig, client = server.rig, server.client
    tries = iter([Script(fails_at_step=3), Script()])
    rig.script = lambda order: next(tries)
    job = str(client.submit(command_job(retry=RetryPolicy(max_failures=1, backoff_s=1.0))).id)
    for number in (1, 2):
        rig.logs.data[AttemptRef(unit_id=unit_id(JobId(job), 0), number=number), 0] = f"try {number}\n".encode()
    with passing_time(rig):
        pieces = list(follow_log(client, job, rank=0))
    assert [(piece.attempt, piece.data) for piece in pieces] == [(1, b"try 1\n"), (2, b"try 2\n")]
    assert client.job(job).state is JobState.SUCCEEDED


def test_a_log_goes_on_after_the_server_was_away() -> None:
    rig = Rig(script=Script(num_steps=1))
    with tempfile.TemporaryDirectory(prefix="tt-") as name:
        folder = Path(name)
        with served(folder, rig) as found:
            job = str(found.client.submit(command_job()).id)
            rig.run(4.0)
            ref = found.client.job(job).attempts[0].ref
            rig.logs.data[ref, 0] = b"first\n"
            pieces = follow_log(found.client, job, rank=0, on_lost=lambda error: restart.enter())
            assert next(pieces).data == b"first\n"

        class Restart:
            """Serves the rig again when the client misses it."""

            def __init__(self) -> None:
                self.block = served(folder, rig)
                self.times = 0

            def enter(self) -> None:
                self.times += 1
                rig.logs.data[ref, 0] = b"first\nsecond\n"
                rig.run(60.0)
                self.block.__enter__()

        restart = Restart()
        rest = [piece.data for piece in pieces]
        restart.block.__exit__(None, None, None)
    assert rest == [b"second\n"]
    assert restart.times == 1


def test_nobody_at_the_address_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no control process answers"):
        Client(f"unix:{tmp_path / 'no.sock'}").status()
    with pytest.raises(UnavailableError):
        list(follow_log(Client(f"unix:{tmp_path / 'no.sock'}"), "x", rank=0))


def test_the_default_address_lies_in_the_state_folder() -> None:
    assert local_address({"TRIMTAB_HOME": "/x"}) == "unix:/x/control.sock"
    assert local_address({"XDG_STATE_HOME": "/s"}) == "unix:/s/trimtab/control.sock"
    assert local_address({}).endswith("/.local/state/trimtab/control.sock")
