"""What identifies a node for measurements: when any part changes, what was measured before counts no more.

Standard library only. Versions of packages are read from their metadata, so that nothing heavy is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_SLUG = re.compile(r"[^a-z0-9]+")
_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """Hardware and versions of this machine. ``gpus`` lists names in index order."""

    cpu_model: str
    num_cores: int
    memory_gib: int
    gpus: tuple[str, ...]
    driver: str
    versions: Mapping[str, str]

    def fingerprint(self) -> str:
        """16 hexadecimal digits over all facts."""
        text = json.dumps(
            [
                self.cpu_model,
                self.num_cores,
                self.memory_gib,
                list(self.gpus),
                self.driver,
                sorted(self.versions.items()),
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def slug(name: str) -> str:
    """Lower-case letters and digits joined by hyphens: ``AMD EPYC`` gives ``amd-epyc``."""
    return _SLUG.sub("-", name.lower()).strip("-") or "unknown"


def node_facts() -> NodeFacts:
    """Read this machine's facts. GPUs come from ``nvidia-smi`` where it is installed."""
    gpus, driver = _nvidia()
    return NodeFacts(
        cpu_model=_cpu_model(),
        num_cores=os.cpu_count() or 1,
        memory_gib=round(host_memory_bytes() / _GIB),
        gpus=gpus,
        driver=driver,
        versions={"python": platform.python_version(), "torch": _version("torch"), "machine": platform.machine()},
    )


def host_memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def physical_cores() -> tuple[int, ...]:
    """One logical processor of each physical core that this process may use, in order."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    seen: set[str] = set()
    out = []
    for core in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        siblings = path.read_text().strip() if path.exists() else str(core)
        if siblings not in seen:
            seen.add(siblings)
            out.append(core)
    return tuple(out)


def cpu_slots(num_devices: int | None = None) -> tuple[tuple[int, ...], ...]:
    """Cores of each CPU device: min(physical cores, 8) devices of equal size unless ``num_devices`` says otherwise.

    More devices than cores share them in turn. Raises ValueError for less than one device.
    """
    cores = physical_cores()
    count = min(len(cores), 8) if num_devices is None else num_devices
    if count < 1:
        raise ValueError(f"at least 1 device is needed, found {count}")
    each = max(1, len(cores) // count)
    return tuple(tuple(cores[(index * each + offset) % len(cores)] for offset in range(each)) for index in range(count))


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _nvidia() -> tuple[tuple[str, ...], str]:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return (), ""
    if done.returncode:
        return (), ""
    rows = [line.rsplit(",", 1) for line in done.stdout.splitlines() if "," in line]
    return tuple(name.strip() for name, _ in rows), rows[0][1].strip() if rows else ""
