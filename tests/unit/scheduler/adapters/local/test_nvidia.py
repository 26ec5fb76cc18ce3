"""GPUs as NVML tells of them. No GPU is here: a stand-in for the driver's library answers as NVML does for named machines."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from scheduler.adapters.local import nvidia
from scheduler.adapters.local.machine import LocalMachine
from trimtab.fingerprint import slug
from trimtab.inventory import DeviceState, DeviceType, ProbeReport
from trimtab.orders import ENV_ATTEMPT_DIR

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class FakeError(Exception):
    """NVMLError of the stand-in."""


@dataclass
class FakeNvml:
    """As many equal GPUs as told; ``unsupported`` calls raise, as on older cards and drivers."""

    name: str | bytes = "NVIDIA H200"
    count: int = 2
    nvlinks: int = 18
    processes: dict[int, list[int]] = field(default_factory=dict)
    unsupported: tuple[str, ...] = ()
    NVMLError: Any = FakeError
    NVML_NVLINK_MAX_LINKS: int = 36
    NVML_CLOCK_SM: int = 1
    NVML_CLOCK_MEM: int = 2
    open: int = 0

    def __getattribute__(self, name: str) -> Any:
        if name in object.__getattribute__(self, "unsupported"):
            return _raise
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return self.name

    def nvmlDeviceGetUUID(self, handle: int) -> bytes:
        return f"GPU-{handle}".encode()

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=141 << 30, free=140 << 30)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=3 << 30) for pid in self.processes.get(handle, [])]

    def nvmlDeviceGetNumGpuCores(self, handle: int) -> int:
        return 16896

    def nvmlDeviceGetMaxClockInfo(self, handle: int, clock: int) -> int:
        return 1980 if clock == self.NVML_CLOCK_SM else 2619

    def nvmlDeviceGetMemoryBusWidth(self, handle: int) -> int:
        return 5120

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        return 9, 0

    def nvmlDeviceGetNvLinkState(self, handle: int, link: int) -> int:
        if link >= 18:
            raise FakeError("invalid argument")
        return int(link < self.nvlinks)

    def nvmlDeviceGetNvLinkVersion(self, handle: int, link: int) -> int:
        return 4

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: int) -> int:
        return 5

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: int) -> int:
        return 16


def _raise(*_: object) -> None:
    raise FakeError("not supported")


def test_a_machine_without_the_driver_has_none_and_says_why() -> None:
    looked = nvidia.look(FakeNvml(unsupported=("nvmlInit",)))
    assert looked.gpus == ()
    assert looked.note == "no NVIDIA GPU: the driver's library does not answer (not supported)"


def test_this_machine_is_looked_at_without_an_error() -> None:
    looked = nvidia.look()
    assert looked.note
    assert all(gpu.uuid for gpu in looked.gpus)


def test_a_driver_that_fails_while_looking_is_told_and_left_closed() -> None:
    fake = FakeNvml(unsupported=("nvmlDeviceGetMemoryInfo",))
    looked = nvidia.look(fake)
    assert looked.gpus == ()
    assert "failed while looking" in looked.note
    assert fake.open == 0


def test_a_known_gpu_has_the_catalogues_figures_and_its_own_links() -> None:
    fake = FakeNvml()
    looked = nvidia.look(fake)
    assert fake.open == 0
    assert [(gpu.index, gpu.uuid, gpu.memory_bytes >> 30, gpu.memory_free_bytes >> 30) for gpu in looked.gpus] == [
        (0, "GPU-0", 141, 140),
        (1, "GPU-1", 141, 140),
    ]
    kind = looked.gpus[0].type
    assert kind.name == "nvidia-h200"
    assert "data sheet" in kind.source
    assert kind.peak_flops["bf16"] == pytest.approx(989e12, rel=0.01)
    assert kind.link is not None
    assert (kind.link.name, kind.link.bandwidth_bytes_per_s, kind.domain_size) == ("NVLink 4", 450e9, 2)


def test_an_unknown_gpu_is_derived_from_its_clocks_and_widths() -> None:
    """The stand-in has an H100's clocks and widths: the derived must come near its data sheet (67, 989 TFLOP/s, 3.35 TB/s)."""
    kind = nvidia.look(FakeNvml(name=b"NVIDIA Future 9000", nvlinks=0)).gpus[0].type
    assert kind.name == "nvidia-future-9000"
    assert kind.peak_flops["fp32"] == pytest.approx(67e12, rel=0.01)
    assert kind.peak_flops["bf16"] == pytest.approx(989e12, rel=0.1)
    assert kind.memory_bandwidth_bytes_per_s == pytest.approx(3.35e12, rel=0.01)
    assert kind.source.startswith("assumed")
    assert kind.link is not None
    assert (kind.link.name, kind.domain_size) == ("PCIe 5 x16", 1)
    assert kind.link.bandwidth_bytes_per_s == pytest.approx(63e9, rel=0.01)


def test_what_a_driver_does_not_support_is_left_out() -> None:
    missing = ("nvmlDeviceGetNumGpuCores", "nvmlDeviceGetMemoryBusWidth", "nvmlDeviceGetCudaComputeCapability")
    links = ("nvmlDeviceGetNvLinkState", "nvmlDeviceGetMaxPcieLinkGeneration")
    kind = nvidia.look(FakeNvml(name="NVIDIA Old", unsupported=missing + links)).gpus[0].type
    assert kind.peak_flops == {"fp32": 0.0}
    assert kind.link is None


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], env={**os.environ, ENV_ATTEMPT_DIR: "/somebody/elses"})
    yield process
    process.kill()
    process.wait()


def test_a_gpu_that_others_hold_is_busy_and_says_by_whom(stranger: subprocess.Popen[bytes]) -> None:
    fake = FakeNvml(processes={1: [stranger.pid]})
    machine = LocalMachine(cpu_devices=1, gpus=lambda: nvidia.look(fake))
    pool = machine.inventory(NOW).pools[1]
    free, busy = pool.nodes[0].devices
    assert (pool.id, pool.num_devices, pool.device_type) == ("local-nvidia-h200", 2, "nvidia-h200")
    assert (free.state, free.used_by) == (DeviceState.FREE, "")
    assert busy.state is DeviceState.BUSY_ELSEWHERE
    assert busy.used_by.startswith(f"process {stranger.pid}, sleep of ")
    assert busy.used_by.endswith("3.0 GiB")
    ours = machine.inventory(NOW, attempt_dirs=["/somebody/elses"]).pools[1].nodes[0].devices[1]
    assert (ours.state, ours.used_by) == (DeviceState.FREE, "")


def test_a_holder_that_cannot_be_seen_is_still_a_holder() -> None:
    machine = LocalMachine(cpu_devices=1, gpus=lambda: nvidia.look(FakeNvml(processes={0: [2**22 + 1]})))
    device = machine.inventory(NOW).pools[1].nodes[0].devices[0]
    assert device.state is DeviceState.BUSY_ELSEWHERE
    assert "not visible from here" in device.used_by


def test_every_pool_has_an_offer_whose_price_says_that_it_is_assumed() -> None:
    found = LocalMachine(cpu_devices=1, gpus=lambda: nvidia.look(FakeNvml())).inventory(NOW)
    assert [offer.id for offer in found.offers] == ["local-cpu/on-demand", "local-nvidia-h200/on-demand"]
    assert all(offer.source.startswith("assumed") and offer.price_usd_per_device_hour > 0 for offer in found.offers)


def test_a_probe_replaces_what_was_assumed_and_keeps_what_was_found() -> None:
    plain = LocalMachine(cpu_devices=2).inventory(NOW).device_types[0]

    def measured(gigaflops: float, day: int, num_devices: int = 2) -> ProbeReport:
        kind = DeviceType(
            name=plain.name,
            kind=plain.kind,
            memory_bytes=1,
            peak_flops={"fp32": gigaflops * 1e9},
            memory_bandwidth_bytes_per_s=5e9,
            source="measured by trimtab probe",
            retrieved_on=f"2026-01-{day:02}",
        )
        return ProbeReport(
            fingerprint="f", device_type=kind, num_devices=num_devices, points=(), measured_at=datetime(2026, 1, day, tzinfo=UTC)
        )

    reports = [measured(40, 9), measured(50, 3), measured(60, 20, num_devices=1)]
    found = LocalMachine(cpu_devices=2, reports=lambda: reports).inventory(NOW).device_types[0]
    assert found.peak_flops == {"fp32": 40e9}, "the newest of as many devices"
    assert found.source == "measured by trimtab probe"
    assert found.memory_bytes == plain.memory_bytes
    assert found.link == plain.link
    other = LocalMachine(cpu_devices=2, reports=lambda: reports, fingerprint="g").inventory(NOW).device_types[0]
    assert other.source.startswith("assumed")
    assert slug(plain.name) == plain.name
