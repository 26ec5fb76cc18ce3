"""The inventory of this machine: its processor cores as CPU devices, its NVIDIA GPUs, and what others use of both."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable, Sequence
from datetime import datetime

from scheduler.adapters.local import cpu, nvidia
from trimtab import processes
from trimtab.fingerprint import cpu_slots, slug
from trimtab.ids import NodeId, OfferId, PoolId
from trimtab.inventory import Device, DeviceState, DeviceType, Inventory, Market, Node, Offer, Pool, ProbeReport
from trimtab.orders import ENV_ATTEMPT_DIR

CPU_POOL = PoolId("local-cpu")
CPU_USD_PER_CORE_HOUR = 0.04
GPU_USD_PER_HOUR = 2.0
Reports = Callable[[], Sequence[ProbeReport]]


def no_reports() -> Sequence[ProbeReport]:
    """Nothing was measured yet."""
    return ()


class LocalMachine:
    """Looks at this machine. Thread-safe: nothing is kept but the last load counters."""

    def __init__(
        self,
        *,
        cpu_devices: int | None = None,
        reports: Reports = no_reports,
        fingerprint: str | None = None,
        gpus: Callable[[], nvidia.GpuLook] = nvidia.look,
    ) -> None:
        """``cpu_devices`` None: as many as the machine suggests. Reports of another ``fingerprint`` than this are not used."""
        self.node_id = NodeId(socket.gethostname() or "localhost")
        self._cpu_devices = cpu_devices
        self._reports = reports
        self._fingerprint = fingerprint
        self._gpus = gpus
        self._load = cpu.LoadMeter()

    def inventory(self, now: datetime, *, attempt_dirs: Sequence[str] = ()) -> Inventory:
        """What there is at ``now``; processes of attempts in ``attempt_dirs`` are ours, all others are others."""
        reports = sorted(self._matching(), key=lambda report: report.measured_at)
        looked = self._gpus()
        types, pools, offers = [], [], []
        cpu_type, cpu_pool, num_cores = self._cpu(reports, now)
        types.append(cpu_type)
        pools.append(cpu_pool)
        offers.append(
            _offer(
                cpu_pool,
                CPU_USD_PER_CORE_HOUR * num_cores,
                f"assumed: {CPU_USD_PER_CORE_HOUR:.2f} USD per core and hour x {num_cores}",
                now,
            )
        )
        for kind in dict.fromkeys(gpu.type.name for gpu in looked.gpus):
            gpus = [gpu for gpu in looked.gpus if gpu.type.name == kind]
            gpu_type = _measured(gpus[0].type, reports)
            pool = self._gpu_pool(gpu_type, gpus, attempt_dirs)
            types.append(gpu_type)
            pools.append(pool)
            offers.append(_offer(pool, GPU_USD_PER_HOUR, f"assumed: {GPU_USD_PER_HOUR:.2f} USD per GPU and hour", now))
        return Inventory(device_types=tuple(types), pools=tuple(pools), offers=tuple(offers), observed_at=now, source="local")

    def gpu_note(self) -> str:
        """What is to be said of GPUs: why there are none, or how many were found."""
        return self._gpus().note

    def _matching(self) -> Sequence[ProbeReport]:
        reports = self._reports()
        return [r for r in reports if self._fingerprint is None or r.fingerprint == self._fingerprint]

    def _cpu(self, reports: Sequence[ProbeReport], now: datetime) -> tuple[DeviceType, Pool, int]:
        parts = cpu_slots(self._cpu_devices)
        memory = cpu.memory()
        device_type = cpu.device_type(len(parts[0]), memory.total_bytes, num_devices=len(parts), on=now.date())
        device_type = _measured(device_type, [r for r in reports if r.num_devices == len(parts)] or reports)
        load = self._load.busy_frac()
        free_bytes = int(memory.available_bytes * cpu.MEMORY_FRAC) // len(parts)
        devices = tuple(
            Device(
                index=index,
                memory_bytes=device_type.memory_bytes,
                memory_free_bytes=min(device_type.memory_bytes, free_bytes),
                cores=part,
                used_by=cpu.load_note(part, load),
            )
            for index, part in enumerate(parts)
        )
        node = Node(id=self.node_id, boot_id=processes.boot_id(), devices=devices, host_memory_bytes=memory.total_bytes)
        pool = Pool(
            id=CPU_POOL,
            device_type=device_type.name,
            devices_per_node=len(devices),
            num_nodes=1,
            nodes=(node,),
            node_link=device_type.link,
        )
        return device_type, pool, len(parts[0])

    def _gpu_pool(self, gpu_type: DeviceType, gpus: Sequence[nvidia.Gpu], attempt_dirs: Sequence[str]) -> Pool:
        devices = tuple(_gpu_device(gpu, attempt_dirs) for gpu in gpus)
        memory = cpu.memory()
        node = Node(id=self.node_id, boot_id=processes.boot_id(), devices=devices, host_memory_bytes=memory.total_bytes)
        return Pool(
            id=PoolId(f"local-{slug(gpu_type.name)}"),
            device_type=gpu_type.name,
            devices_per_node=len(devices),
            num_nodes=1,
            nodes=(node,),
            node_link=gpu_type.link,
        )


def is_of_attempts(pid: int, attempt_dirs: Sequence[str]) -> bool:
    """Whether a process began with the mark of one of these attempts."""
    if not attempt_dirs:
        return False
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = b"\0" + file.read() + b"\0"
    except OSError:
        return False  # gone, or another user's
    return any(b"\0" + f"{ENV_ATTEMPT_DIR}={folder}".encode() + b"\0" in environment for folder in attempt_dirs)


def _gpu_device(gpu: nvidia.Gpu, attempt_dirs: Sequence[str]) -> Device:
    others = [p for p in gpu.processes if p.pid != os.getpid() and not is_of_attempts(p.pid, attempt_dirs)]
    return Device(
        index=gpu.index,
        state=DeviceState.BUSY_ELSEWHERE if others else DeviceState.FREE,
        uuid=gpu.uuid,
        memory_bytes=gpu.memory_bytes,
        memory_free_bytes=gpu.memory_free_bytes,
        used_by="; ".join(nvidia.describe(process) for process in others),
    )


def _measured(device_type: DeviceType, reports: Sequence[ProbeReport]) -> DeviceType:
    """The device type with the figures of the newest report of it, which is the last; name and memory are what was found now."""
    for report in reversed(reports):
        found = report.device_type
        if found.kind is device_type.kind and found.name == device_type.name:
            link, domain_size = found.link or device_type.link, device_type.domain_size
            return dataclasses.replace(found, memory_bytes=device_type.memory_bytes, link=link, domain_size=domain_size)
    return device_type


def _offer(pool: Pool, usd_per_device_hour: float, source: str, now: datetime) -> Offer:
    return Offer(
        id=OfferId(f"{pool.id}/on-demand"),
        pool_id=pool.id,
        market=Market.ON_DEMAND,
        price_usd_per_device_hour=usd_per_device_hour,
        source=source,
        retrieved_on=now.date().isoformat(),
        nodes_now=1,
        nodes_possible=1,
    )
