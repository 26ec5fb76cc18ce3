"""One entry of the device catalogue: a device type, its other spellings, and the origin of every figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, Link, Storage, Torus
from trimtab.strategy import Precision

PEAKS = (*(precision.value for precision in Precision), "mxfp8", "mxfp4", "nvfp4")
"""Number formats that a peak may be given for: those that the planner trains in, then the block-scaled ones."""
_GIB = 1024**3

Cited = tuple[Any, str, str]
"""A value, the document that it comes from, and that document's date (ISO)."""
_PER_SECOND = ("local_read", "local_write", "network_read", "network_write", "host_link")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of a device: its name with the unit, its value, and the document and date (ISO) that it comes from."""

    name: str
    value: float
    source: str
    retrieved_on: str

    @property
    def is_assumed(self) -> bool:
        """Whether nobody printed this figure: its source begins with the word ``assumed``."""
        return self.source.startswith("assumed")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """A device type with its other spellings and the origin of every figure."""

    device_type: DeviceType
    aliases: tuple[str, ...]
    figures: tuple[Figure, ...]

    def figure(self, name: str) -> Figure | None:
        """The figure of that name, if the entry has it."""
        return next((figure for figure in self.figures if figure.name == name), None)

    @property
    def spellings(self) -> tuple[str, ...]:
        """The canonical name, then the others."""
        return (str(self.device_type.name), *self.aliases)


def shape_of(text: str) -> tuple[int, ...]:
    """The lengths of ``4x8x4``, shortest first. Raises ValueError for other text."""
    return tuple(sorted(int(part) for part in text.split("x")))


class _Figures:
    """Reads cited figures and notes each with its name."""

    def __init__(self) -> None:
        self.noted: list[Figure] = []

    def number(self, name: str, cited: Cited) -> float:
        return float(self.note(name, cited, float))

    def note(self, name: str, cited: Cited, count: Callable[[Any], float]) -> Any:
        """The value as it stands; what is noted of one that is no number is what ``count`` makes of it."""
        value, source, date = cited
        self.noted.append(Figure(name=name, value=count(value), source=source, retrieved_on=date))
        return value


def entry_of(raw: Mapping[str, Any]) -> CatalogueEntry:
    """The entry that ``raw`` describes with the keys of ``catalogue.json``, every figure a ``Cited``.

    GiB, GB/s, TFLOP/s and microseconds become bytes, bytes/s, FLOP/s and seconds. Raises ValueError for a torus that
    contradicts itself.
    """
    figures = _Figures()
    memory_gib = figures.number("memory_gib", raw["memory_gib"])
    bandwidth = figures.number("memory_bandwidth_gb_per_s", raw["memory_bandwidth_gb_per_s"])
    cited = figures.noted[
        1
    ]  # what is said of the type as a whole; the memory of a part that is sold with less may be an estimate
    peaks = {name: figures.number(f"peak_{name}_tflops", stated) * 1e12 for name, stated in raw["peak_tflops"].items()}
    link = raw.get("link")
    made = DeviceType(
        name=DeviceTypeName(raw["name"]),
        kind=DeviceKind(raw["kind"]),
        memory_bytes=int(memory_gib * _GIB),
        peak_flops=MappingProxyType(peaks),
        memory_bandwidth_bytes_per_s=bandwidth * 1e9,
        source=cited.source,
        retrieved_on=cited.retrieved_on,
        link=_link(link, "link", figures) if link else None,
        domain_size=int(figures.number("domain_size", link["domain_size"])) if link and "domain_size" in link else 1,
        devices_per_node=int(figures.number("devices_per_node", raw["devices_per_node"])) if "devices_per_node" in raw else None,
        torus=_torus(raw["torus"], figures) if "torus" in raw else None,
        network=_link(raw["network"], "network", figures) if "network" in raw else None,
        storage=_storage(raw["storage"], figures) if "storage" in raw else None,
        origins=MappingProxyType(_origins(figures.noted, cited)),
    )
    return CatalogueEntry(device_type=made, aliases=tuple(raw.get("aliases", ())), figures=tuple(figures.noted))


def _origins(figures: Iterable[Figure], usual: Figure) -> dict[str, str]:
    """Where each figure comes from that does not come from where the usual one does."""
    others = (figure for figure in figures if (figure.source, figure.retrieved_on) != (usual.source, usual.retrieved_on))
    return {figure.name: ", ".join(part for part in (figure.source, figure.retrieved_on) if part) for figure in others}


def _link(link: Mapping[str, Any], key: str, figures: _Figures) -> Link:
    return Link(
        name=link["name"],
        bandwidth_bytes_per_s=figures.number(f"{key}_bandwidth_gb_per_s", link["bandwidth_gb_per_s"]) * 1e9,
        latency_s=figures.number(f"{key}_latency_us", link["latency_us"]) * 1e-6,
    )


def _storage(storage: Mapping[str, Any], figures: _Figures) -> Storage:
    before = len(figures.noted)
    rates = {
        f"{name}_bytes_per_s": figures.number(f"storage_{name}_gb_per_s", storage[f"{name}_gb_per_s"]) * 1e9
        for name in _PER_SECOND
        if f"{name}_gb_per_s" in storage
    }
    memory = storage.get("host_memory_gib")
    memory_bytes = None if memory is None else int(figures.number("storage_host_memory_gib", memory) * _GIB)
    noted = figures.noted[before:]
    least = next((figure for figure in noted if figure.is_assumed), noted[0]) if noted else None
    return Storage(
        **rates,
        host_memory_bytes=memory_bytes,
        source=least.source if least else "",
        retrieved_on=least.retrieved_on if least else "",
    )


def _torus(torus: Mapping[str, Any], figures: _Figures) -> Torus:
    """Shapes are no numbers; what is noted of them is how many devices and how many slices they mean."""
    axes = figures.note("torus_devices", torus["axes"], lambda text: float(math.prod(shape_of(text))))
    slices = figures.note("torus_slices", torus["slices"], lambda shapes: float(len(shapes)))
    return Torus(
        axes=shape_of(axes),
        slices=tuple(shape_of(text) for text in slices),
        ring_length=int(figures.number("torus_ring_length", torus["ring_length"])),
        in_cubes=torus["in_cubes"],
        link_bandwidth_bytes_per_s=figures.number("torus_link_bandwidth_gb_per_s", torus["link_bandwidth_gb_per_s"]) * 1e9,
    )
