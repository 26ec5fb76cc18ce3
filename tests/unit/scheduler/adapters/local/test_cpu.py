"""Cores as devices."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from scheduler.adapters.local import cpu
from scheduler.adapters.local.folders import JobFolders
from scheduler.adapters.local.machine import LocalMachine
from trimtab.ids import AttemptRef, JobId, UnitId
from trimtab.inventory import DeviceState
from trimtab.processes import boot_id

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("num_devices", [None, 1, 3, 9])
def test_the_machine_is_shared_out_among_its_devices(num_devices: int | None) -> None:
    found = LocalMachine(cpu_devices=num_devices).inventory(NOW)
    pool, kind = found.pools[0], found.device_types[0]
    (node,) = pool.nodes
    expected = min(psutil.cpu_count(logical=False) or 1, len(os.sched_getaffinity(0)), 8) if num_devices is None else num_devices
    assert (pool.id, pool.num_devices, len(node.devices)) == ("local-cpu", expected, expected)
    assert node.boot_id == boot_id()
    assert kind.name == pool.device_type
    assert kind.name.startswith("cpu-")
    for device in node.devices:
        assert device.state is DeviceState.FREE
        assert set(device.cores) <= os.sched_getaffinity(0)
        assert 0 < device.memory_free_bytes <= device.memory_bytes == kind.memory_bytes
    assert sum(device.memory_bytes for device in node.devices) <= 0.9 * node.host_memory_bytes
    assert kind.peak_flops["fp32"] > 1e9
    assert kind.source.startswith("assumed")


def test_load_is_the_busy_share_between_two_looks(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu 1 1 1 1 1\ncpu0 0 0 0 100 0 0 0 0 0 0\ncpu1 0 0 0 100 0 0 0 0 0 0\nintr 5\n")
    meter = cpu.LoadMeter(stat)
    assert meter.busy_frac() == {}
    stat.write_text("cpu 1 1 1 1 1\ncpu0 75 0 0 120 5 0 0 0 0 0\ncpu1 0 0 0 200 0 0 0 0 0 0\nintr 5\n")
    load = meter.busy_frac()
    assert load == {0: 0.75, 1: 0.0}
    assert cpu.load_note((0,), load) == "its cores are 75% busy"
    assert cpu.load_note((1,), load) == ""
    assert cpu.load_note((7,), load) == ""


def test_folders_lead_back_to_their_attempts(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path)
    refs = [AttemptRef(unit_id=UnitId(f"job_{job}.u{unit}"), number=n) for job in "ab" for unit in (0, 3) for n in (1, 12)]
    for ref in refs:
        folders.attempt(ref).mkdir(parents=True)
        (folders.attempt(ref) / "agent.lock").touch()
        assert folders.attempt_of(folders.attempt(ref)) == ref
    for name in ("checkpoints/a1", "a1x", "b1"):
        (folders.job(JobId("job_a")) / name).mkdir(parents=True)
        (folders.job(JobId("job_a")) / name / "agent.lock").touch()
    assert sorted(folders.started()) == sorted(refs)
    with pytest.raises(ValueError, match="no number"):
        folders.attempt(AttemptRef(unit_id=UnitId("job_a"), number=1))
