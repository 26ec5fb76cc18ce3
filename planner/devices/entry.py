"""One entry of the device catalogue: a device type, its other spellings, and the origin of every figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, Link, Torus
from trimtab.strategy import Precision

PEAKS = (*(precision.value for precision in Precision), "mxfp8", "mxfp4", "nvfp4")
"""Number formats that a peak may be given for: those that the planner trains in, then the block-scaled ones."""
_GIB = 1024**3

Cited = tuple[Any, str, str]
"""A value, the document that it comes from, and that document's date (ISO)."""
Cite = Callable[[Any], Cited]


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

    @property
    def spellings(self) -> tuple[str, ...]:
        """The canonical name, then the others."""
        return (str(self.device_type.name), *self.aliases)


def shape_of(text: str) -> tuple[int, ...]:
    """The lengths of ``4x8x4``, shortest first. Raises ValueError for other text."""
    return tuple(sorted(int(part) for part in text.split("x")))


def entry_of(raw: Mapping[str, Any], cite: Cite) -> CatalogueEntry:
    """The entry that ``raw`` describes with the keys of ``catalogue.json``; ``cite`` reads one figure with its origin.

    GiB, GB/s, TFLOP/s and microseconds become bytes, bytes/s, FLOP/s and seconds. Raises ValueError for a torus that
    contradicts itself.
    """
    figures: list[Figure] = []

    def figure(name: str, stated: Any) -> float:
        value, source, date = cite(stated)
        figures.append(Figure(name=name, value=float(value), source=source, retrieved_on=date))
        return float(value)

    memory_gib = figure("memory_gib", raw["memory_gib"])
    bandwidth = figure("memory_bandwidth_gb_per_s", raw["memory_bandwidth_gb_per_s"])
    peaks = {name: figure(f"peak_{name}_tflops", stated) * 1e12 for name, stated in raw["peak_tflops"].items()}
    link = raw.get("link")
    cited = figures[1]  # what is said of the type as a whole; the memory of a part that is sold with less may be an estimate
    made = DeviceType(
        name=DeviceTypeName(raw["name"]),
        kind=DeviceKind(raw["kind"]),
        memory_bytes=int(memory_gib * _GIB),
        peak_flops=MappingProxyType(peaks),
        memory_bandwidth_bytes_per_s=bandwidth * 1e9,
        source=cited.source,
        retrieved_on=cited.retrieved_on,
        link=_link(link, figure) if link else None,
        domain_size=int(figure("domain_size", link["domain_size"])) if link and "domain_size" in link else 1,
        devices_per_node=int(figure("devices_per_node", raw["devices_per_node"])) if "devices_per_node" in raw else None,
        torus=_torus(raw["torus"], figures, cite) if "torus" in raw else None,
    )
    return CatalogueEntry(device_type=made, aliases=tuple(raw.get("aliases", ())), figures=tuple(figures))


def _link(link: Mapping[str, Any], figure: Callable[[str, Any], float]) -> Link:
    return Link(
        name=link["name"],
        bandwidth_bytes_per_s=figure("link_bandwidth_gb_per_s", link["bandwidth_gb_per_s"]) * 1e9,
        latency_s=figure("link_latency_us", link["latency_us"]) * 1e-6,
    )


def _torus(torus: Mapping[str, Any], figures: list[Figure], cite: Cite) -> Torus:
    """Shapes are no numbers; what is noted of them is how many devices and how many slices they mean."""

    def noted(name: str, key: str, count: Callable[[Any], float]) -> Any:
        value, source, date = cite(torus[key])
        figures.append(Figure(name=name, value=count(value), source=source, retrieved_on=date))
        return value

    return Torus(
        axes=shape_of(noted("torus_devices", "axes", lambda text: float(math.prod(shape_of(text))))),
        slices=tuple(shape_of(text) for text in noted("torus_slices", "slices", lambda shapes: float(len(shapes)))),
        ring_length=int(noted("torus_ring_length", "ring_length", float)),
        in_cubes=torus["in_cubes"],
        link_bandwidth_bytes_per_s=noted("torus_link_bandwidth_gb_per_s", "link_bandwidth_gb_per_s", float) * 1e9,
    )
