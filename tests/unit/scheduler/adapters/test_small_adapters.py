"""Clocks, probe folder, local identity and telemetry in memory."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scheduler.adapters.identity.local import LocalIdentity
from scheduler.adapters.probes.folder import ProbeFolder
from scheduler.adapters.telemetry.memory import MemoryTelemetry
from scheduler.adapters.time.clocks import SystemClock, VirtualClock
from scheduler.ports import Action
from tests.support.kit import START, inventory
from trimtab.errors import StoreError
from trimtab.inventory import ProbeReport


def probe(fingerprint: str, num_devices: int = 1) -> ProbeReport:
    (kind,) = inventory().device_types
    return ProbeReport(fingerprint=fingerprint, device_type=kind, num_devices=num_devices, points=(), measured_at=START)


def test_a_wake_ends_a_running_wait() -> None:
    clock = SystemClock()
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(clock.wait(600)))
    waiter.start()
    clock.wake()
    waiter.join(timeout=60)
    assert woken == [True]


def test_a_wake_that_came_before_the_wait_is_not_lost_and_counts_once() -> None:
    clock = SystemClock()
    assert not clock.wait(0)
    clock.wake()
    clock.wake()
    assert clock.wait(600)
    assert not clock.wait(0)


def test_a_wake_reaches_every_thread() -> None:
    clock = SystemClock()
    woken: list[bool] = []
    waiters = [threading.Thread(target=lambda: woken.append(clock.wait(600))) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    clock.wake()
    for waiter in waiters:
        waiter.join(timeout=60)
    assert woken == [True] * 3


def test_system_time_is_aware_and_monotonic() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()


def test_virtual_time_moves_only_when_told() -> None:
    clock = VirtualClock(START)
    assert (clock.now(), clock.monotonic()) == (START, 0.0)
    assert not clock.wait(5)
    assert (clock.now(), clock.monotonic()) == (START + timedelta(seconds=5), 5.0)
    clock.set_back(60)
    assert (clock.now(), clock.monotonic()) == (START - timedelta(seconds=55), 5.0)
    clock.wake()
    assert clock.wait(100)
    assert clock.monotonic() == 5.0
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="aware"):
        VirtualClock(datetime(2026, 1, 1))  # noqa: DTZ001


def test_probe_reports_are_kept_by_fingerprint(tmp_path: Path) -> None:
    folder = ProbeFolder(tmp_path / "probes")
    assert folder.reports() == ()
    folder.put(probe("b"))
    folder.put(probe("a"))
    folder.put(probe("b", num_devices=4))
    found = ProbeFolder(tmp_path / "probes").reports()
    assert [(report.fingerprint, report.num_devices) for report in found] == [("a", 1), ("b", 4)]
    assert sorted(path.name for path in (tmp_path / "probes").iterdir()) == ["a.json", "b.json"]


def test_a_probe_report_that_cannot_be_read_is_left_out_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = ProbeFolder(tmp_path)
    folder.put(probe("good"))
    (tmp_path / "bad.json").write_text("{}")
    for _ in range(3):
        assert [report.fingerprint for report in folder.reports()] == ["good"]
    assert len([record for record in caplog.records if "bad.json" in record.message]) == 1


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 200])
def test_a_fingerprint_that_is_no_plain_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="no plain name"):
        ProbeFolder(tmp_path).put(probe(name))


def test_only_the_owner_of_the_socket_is_known() -> None:
    identity = LocalIdentity("ann")
    principal = identity.authenticate(None, local_user="ann")
    assert principal is not None
    assert all(identity.allowed(principal, action, "default") for action in Action)
    assert identity.authenticate("a token", local_user=None) is None
    assert identity.authenticate(None, local_user="eve") is None
    root = identity.authenticate(None, local_user="root")
    assert root is not None
    assert identity.allowed(root, Action.ADMIN, "default")


def test_members_of_a_shared_queue_read_and_submit() -> None:
    identity = LocalIdentity("ann", shared=True)
    member = identity.authenticate(None, local_user="eve")
    assert member is not None
    assert [action for action in Action if identity.allowed(member, action, "default")] == [Action.READ, Action.SUBMIT]
    assert identity.authenticate("a token", local_user=None) is None


def test_telemetry_in_memory_adds_up() -> None:
    telemetry = MemoryTelemetry()
    telemetry.count("n", kind="a")
    telemetry.count("n", 2.0, kind="b")
    telemetry.observe("t", 1.0)
    telemetry.observe("t", 3.0)
    telemetry.gauge("g", 1.0)
    telemetry.gauge("g", 7.0)
    assert (telemetry.counted("n"), telemetry.counted("n", kind="b")) == (3.0, 2.0)
    assert telemetry.observed("t") == (2, 4.0, 3.0)
    assert telemetry.gauged("g") == 7.0
    assert telemetry.gauged("none") is None
