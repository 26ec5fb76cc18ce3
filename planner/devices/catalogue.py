"""The device catalogue: data with a source and a date per figure, read from ``catalogue.json`` beside this module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from planner.devices.names import nearest, resolve
from trimtab.errors import Problem, SpecError
from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, Link

_FILE = Path(__file__).with_name("catalogue.json")
_GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of a device: its name with the unit, its value, and the document and date (ISO) that it comes from."""

    name: str
    value: float
    source: str
    retrieved_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """A device type with its other spellings and the origin of every figure."""

    device_type: DeviceType
    aliases: tuple[str, ...]
    figures: tuple[Figure, ...]


@cache
def entries() -> Mapping[str, CatalogueEntry]:
    """All entries by canonical name."""
    document = json.loads(_FILE.read_text(encoding="utf-8"))
    sources: dict[str, dict[str, str]] = document["sources"]
    found = (_entry(raw, sources) for raw in document["devices"])
    return MappingProxyType({str(entry.device_type.name): entry for entry in found})


@cache
def catalogue() -> Mapping[str, DeviceType]:
    """All device types by canonical name."""
    return MappingProxyType({name: entry.device_type for name, entry in entries().items()})


def spellings() -> Mapping[str, tuple[str, ...]]:
    """The aliases of each canonical name."""
    return {name: entry.aliases for name, entry in entries().items()}


def device_type(name: str, *, path: str = "device_type") -> DeviceType:
    """The catalogue's device type of that name or alias.

    Raises SpecError naming ``path``, what is allowed and the nearest name.
    """
    canonical = resolve(name, spellings())
    if canonical is None:
        allowed = ", ".join(sorted(entries()))
        problem = Problem(path=path, message=f"unknown device type {name!r}", allowed=allowed, nearest=nearest_name(name))
        raise SpecError([problem])
    return catalogue()[canonical]


def nearest_name(name: str) -> str | None:
    """The catalogue's name to suggest for an unknown one."""
    return nearest(name, spellings())


def _entry(raw: Mapping[str, Any], sources: Mapping[str, Mapping[str, str]]) -> CatalogueEntry:
    figures: list[Figure] = []

    def figure(name: str, pair: list[Any]) -> float:
        value, source = pair
        origin = sources[source]
        figures.append(Figure(name=name, value=float(value), source=origin["title"], retrieved_on=origin["date"]))
        return float(value)

    memory_gib = figure("memory_gib", raw["memory_gib"])
    bandwidth = figure("memory_bandwidth_gb_per_s", raw["memory_bandwidth_gb_per_s"])
    peaks = {name: figure(f"peak_{name}_tflops", pair) * 1e12 for name, pair in raw["peak_tflops"].items()}
    link = raw["link"]
    made = DeviceType(
        name=DeviceTypeName(raw["name"]),
        kind=DeviceKind(raw["kind"]),
        memory_bytes=int(memory_gib * _GIB),
        peak_flops=MappingProxyType(peaks),
        memory_bandwidth_bytes_per_s=bandwidth * 1e9,
        source=figures[0].source,
        retrieved_on=figures[0].retrieved_on,
        link=Link(
            name=link["name"],
            bandwidth_bytes_per_s=figure("link_bandwidth_gb_per_s", link["bandwidth_gb_per_s"]) * 1e9,
            latency_s=figure("link_latency_us", link["latency_us"]) * 1e-6,
        ),
        domain_size=int(figure("domain_size", link["domain_size"])),
    )
    return CatalogueEntry(device_type=made, aliases=tuple(raw["aliases"]), figures=tuple(figures))
