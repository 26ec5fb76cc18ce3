"""Processor cores as devices: their memory and load, and what is assumed of them until they are measured."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import psutil

from trimtab.fingerprint import node_facts, slug
from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, Link

MEMORY_FRAC = 0.9
BUSY_FRAC = 0.2
_FALLBACK_HZ = 2.0e9
_BANDWIDTH_PER_CORE, _BANDWIDTH_PER_MACHINE = 10e9, 80e9
_SHARED_MEMORY = Link(name="shared memory", bandwidth_bytes_per_s=4e9, latency_s=20e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory that this process's control group may use in all, and what of it is available now."""

    total_bytes: int
    available_bytes: int


@cache
def type_name() -> DeviceTypeName:
    """The name under which a probe reports these devices."""
    return DeviceTypeName(f"cpu-{slug(node_facts().cpu_model)}")


def memory() -> Memory:
    """The machine's memory, or the control group's limit where that is lower."""
    machine = psutil.virtual_memory()
    limit, used = _group_memory()
    total, available = int(machine.total), int(machine.available)
    if limit is None or limit >= total:
        return Memory(total_bytes=total, available_bytes=available)
    return Memory(total_bytes=limit, available_bytes=max(0, min(available, limit - used)))


def device_type(num_cores: int, total_bytes: int, *, num_devices: int, on: date) -> DeviceType:
    """The type of one CPU device with assumed figures: clock times vector width, and a share of an ordinary memory bandwidth."""
    flops_per_cycle, unit = _flops_per_cycle(_flags())
    hertz = _hertz()
    fp32 = num_cores * hertz * flops_per_cycle
    bandwidth = min(num_cores * _BANDWIDTH_PER_CORE, _BANDWIDTH_PER_MACHINE / num_devices)
    return DeviceType(
        name=type_name(),
        kind=DeviceKind.CPU,
        memory_bytes=int(total_bytes * MEMORY_FRAC) // num_devices,
        peak_flops={"fp64": fp32 / 2, "fp32": fp32},
        memory_bandwidth_bytes_per_s=bandwidth,
        source=f"assumed: {num_cores} cores x {hertz / 1e9:.2f} GHz x {unit}; trimtab probe measures it",
        retrieved_on=on.isoformat(),
        link=_SHARED_MEMORY,
        domain_size=num_devices,
    )


def load_note(cores: Sequence[int], busy: Mapping[int, float]) -> str:
    """How much of a device's cores runs at the moment, where it is worth a word."""
    shares = [busy[core] for core in cores if core in busy]
    if not shares or sum(shares) / len(shares) < BUSY_FRAC:
        return ""
    return f"its cores are {sum(shares) / len(shares):.0%} busy"


class LoadMeter:
    """The busy share of each processor between two looks."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._lock = threading.Lock()
        self._last = self._read()

    def busy_frac(self) -> Mapping[int, float]:
        """By processor number, since the last call; empty at once after it."""
        with self._lock:
            now, before = self._read(), self._last
            if all(now[core][1] - before[core][1] < 10 for core in now if core in before):
                return {}  # under a tenth of a second: too few ticks to say anything
            self._last = now
        out = {}
        for core, (idle, total) in now.items():
            past_idle, past_total = before.get(core, (0, 0))
            if total > past_total:
                out[core] = max(0.0, 1.0 - (idle - past_idle) / (total - past_total))
        return out

    def _read(self) -> dict[int, tuple[int, int]]:
        """(idle, all) clock ticks by processor."""
        out = {}
        for line in self._stat.read_text().splitlines():
            name, *ticks = line.split()
            if name.startswith("cpu") and name != "cpu":
                counts = [int(tick) for tick in ticks[:8]]
                out[int(name[3:])] = (counts[3] + counts[4], sum(counts))
        return out


def _flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    for line in cpuinfo.read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _hertz(cpuinfo: Path = Path("/proc/cpuinfo")) -> float:
    """The fastest clock that the kernel shows now; it has none on most ARM machines."""
    shown = [line.partition(":")[2] for line in cpuinfo.read_text(errors="replace").splitlines() if line.startswith("cpu MHz")]
    return max((float(value) * 1e6 for value in shown), default=_FALLBACK_HZ)


def _flops_per_cycle(flags: frozenset[str]) -> tuple[int, str]:
    """fp32 operations of one core per cycle: two vector units, a fused multiply-add counted as two."""
    if "avx512f" in flags:
        return 64, "64 (AVX-512)"
    if "fma" in flags and "avx2" in flags:
        return 32, "32 (AVX2, FMA)"
    if "asimd" in flags:
        return 16, "16 (NEON)"
    return 8, "8 (SSE)"


def _group_folder(controller: str) -> Path | None:
    """Folder of this process's control group for a controller, version 2 or 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path("/sys/fs/cgroup") / controller / path.lstrip("/")
    unified = next((line.split(":", 2)[2] for line in lines if line.startswith("0::")), None)
    return None if unified is None else Path("/sys/fs/cgroup") / unified.lstrip("/")


def _group_memory() -> tuple[int | None, int]:
    """(limit, use) of the control group in bytes; no limit where it has none."""
    folder = _group_folder("memory")
    if folder is None:
        return None, 0
    for limit_name, use_name in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limit, use = (folder / limit_name).read_text().strip(), (folder / use_name).read_text().strip()
        except OSError:
            continue
        return (None if limit == "max" else int(limit)), int(use)
    return None, 0
