"""NVIDIA GPUs of this machine by NVML: what they are, how they are joined, who uses them. No driver is no error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import psutil
import pynvml

from planner.devices import CatalogueEntry, entries
from planner.devices.names import resolve
from trimtab.fingerprint import slug
from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, Link

_NVLINK_BYTES_PER_S = {1: 20e9, 2: 25e9, 3: 25e9, 4: 25e9, 5: 50e9}  # one way, one link, by NVLink version
_PCIE_LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
_NVLINK_LATENCY_S, _PCIE_LATENCY_S = 5e-6, 10e-6
# Dense FLOP per clock and multiprocessor of the tensor cores with fp16 or bf16 input, and fp32 cores, by compute capability: the
# tables of the CUDA programming guide. A capability that is not here gets its fp32 rate from the counted cores alone.
_TENSOR_FLOPS_PER_CLOCK = {(7, 0): 1024, (7, 5): 1024, (8, 0): 2048, (8, 6): 1024, (8, 9): 1024, (9, 0): 4096, (10, 0): 8192}
_CORES_PER_MULTIPROCESSOR = {(7, 0): 64, (7, 5): 64, (8, 0): 64, (8, 6): 128, (8, 9): 128, (9, 0): 128, (10, 0): 128}
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process with a compute context on a GPU; ``memory_bytes`` None where the driver does not say (in a container)."""

    pid: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as it is now. ``index`` is its number in PCI order: the CUDA ordinal under CUDA_DEVICE_ORDER=PCI_BUS_ID."""

    index: int
    uuid: str
    type: DeviceType
    memory_bytes: int
    memory_free_bytes: int
    processes: tuple[GpuProcess, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLook:
    """All GPUs, and a sentence on what was found or why nothing was."""

    gpus: tuple[Gpu, ...]
    note: str


class Nvml(Protocol):
    """The part of NVML's Python binding that is used; the tests bring their own."""

    def __getattr__(self, name: str) -> Any:
        """Any function or constant of the binding."""
        ...


def look(nvml: Nvml = pynvml, *, known: Callable[[], Mapping[str, CatalogueEntry]] = entries) -> GpuLook:
    """Every GPU now, with the figures that ``known`` has of it.

    A machine without the driver, or whose driver fails, has none, and the note says why.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return GpuLook(gpus=(), note=f"no NVIDIA GPU: the driver's library does not answer ({error})")
    try:
        gpus = tuple(_gpu(nvml, index, known) for index in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError as error:
        return GpuLook(gpus=(), note=f"no NVIDIA GPU can be used: NVML failed while looking ({error})")
    finally:
        nvml.nvmlShutdown()
    return GpuLook(gpus=gpus, note=f"{len(gpus)} NVIDIA GPUs found by NVML")


def describe(process: GpuProcess) -> str:
    """A process that holds a GPU, for a person: number, program, user, memory."""
    parts = [f"process {process.pid}"]
    try:
        found = psutil.Process(process.pid)
        parts.append(f"{found.name()} of {found.username()}")
    except psutil.Error:
        parts.append("not visible from here")
    if process.memory_bytes is not None:
        parts.append(f"{process.memory_bytes / 2**30:.1f} GiB")
    return ", ".join(parts)


def _gpu(nvml: Nvml, index: int, known: Callable[[], Mapping[str, CatalogueEntry]]) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return Gpu(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        type=_type(nvml, handle, memory_bytes=int(memory.total), known=known()),
        memory_bytes=int(memory.total),
        memory_free_bytes=int(memory.free),
        processes=tuple(
            GpuProcess(pid=int(p.pid), memory_bytes=None if p.usedGpuMemory is None else int(p.usedGpuMemory)) for p in processes
        ),
    )


def _type(nvml: Nvml, handle: Any, *, memory_bytes: int, known: Mapping[str, CatalogueEntry]) -> DeviceType:
    """The catalogue's figures for this GPU, else what its own clocks and widths give; its memory and links as they are."""
    name = _text(nvml.nvmlDeviceGetName(handle))
    kind = DeviceTypeName(slug(name))  # as a probe names it; the catalogue knows it as an alias
    link, domain_size = _link(nvml, handle)
    canonical = resolve(name, {entry: found.aliases for entry, found in known.items()})
    if canonical is not None:
        found = known[canonical].device_type
        return dataclasses.replace(found, name=kind, memory_bytes=memory_bytes, link=link or found.link, domain_size=domain_size)
    return DeviceType(
        name=kind,
        kind=DeviceKind.GPU,
        memory_bytes=memory_bytes,
        peak_flops=_peak_flops(nvml, handle),
        memory_bandwidth_bytes_per_s=_memory_bandwidth(nvml, handle),
        source="assumed: cores, widths and highest clocks as NVML gives them; trimtab probe measures it",
        retrieved_on="",
        link=link,
        domain_size=domain_size,
    )


def _peak_flops(nvml: Nvml, handle: Any) -> Mapping[str, float]:
    cores = _optional(nvml, nvml.nvmlDeviceGetNumGpuCores, handle) or 0
    megahertz = _optional(nvml, lambda h: nvml.nvmlDeviceGetMaxClockInfo(h, nvml.NVML_CLOCK_SM), handle) or 0
    capability = _optional(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    peaks = {"fp32": cores * 2.0 * megahertz * 1e6}
    key = (int(capability[0]), int(capability[1])) if capability is not None else (0, 0)
    if key in _TENSOR_FLOPS_PER_CLOCK:
        multiprocessors = cores / _CORES_PER_MULTIPROCESSOR[key]
        peaks["fp16"] = multiprocessors * _TENSOR_FLOPS_PER_CLOCK[key] * megahertz * 1e6
        if key >= (8, 0):
            peaks["bf16"] = peaks["fp16"]
    return MappingProxyType(peaks)


def _memory_bandwidth(nvml: Nvml, handle: Any) -> float:
    """Bus width times twice the memory clock (two transfers per cycle)."""
    bits = _optional(nvml, nvml.nvmlDeviceGetMemoryBusWidth, handle) or 0
    megahertz = _optional(nvml, lambda h: nvml.nvmlDeviceGetMaxClockInfo(h, nvml.NVML_CLOCK_MEM), handle) or 0
    return bits / 8 * 2 * megahertz * 1e6


def _link(nvml: Nvml, handle: Any) -> tuple[Link | None, int]:
    """How the GPU is joined to the others, and among how many by NVLink: active links of it, else its PCIe slot."""
    numbers = range(nvml.NVML_NVLINK_MAX_LINKS)
    active = [number for number in numbers if _optional(nvml, partial(_nvlink_state, nvml, number), handle)]
    if active:
        version = _optional(nvml, lambda h: nvml.nvmlDeviceGetNvLinkVersion(h, active[0]), handle) or 1
        rate = _NVLINK_BYTES_PER_S.get(int(version), max(_NVLINK_BYTES_PER_S.values()))
        link = Link(name=f"NVLink {version}", bandwidth_bytes_per_s=len(active) * rate, latency_s=_NVLINK_LATENCY_S)
        return link, int(nvml.nvmlDeviceGetCount())
    generation = _optional(nvml, nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle)
    width = _optional(nvml, nvml.nvmlDeviceGetMaxPcieLinkWidth, handle)
    if generation is None or width is None:
        return None, 1
    lane = _PCIE_LANE_BYTES_PER_S.get(int(generation), _PCIE_LANE_BYTES_PER_S[6])
    return Link(name=f"PCIe {generation} x{width}", bandwidth_bytes_per_s=lane * width, latency_s=_PCIE_LATENCY_S), 1


def _nvlink_state(nvml: Nvml, number: int, handle: Any) -> bool:
    return bool(nvml.nvmlDeviceGetNvLinkState(handle, number))


def _optional(nvml: Nvml, call: Callable[[Any], T], handle: Any) -> T | None:
    """What a call gives, or None where this GPU or driver does not support it."""
    try:
        return call(handle)
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    """Older bindings give bytes."""
    return value.decode() if isinstance(value, bytes) else value
