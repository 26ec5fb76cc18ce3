"""The device catalogue: data with a source and a date per figure, read from ``catalogue.json`` beside this module."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from planner.devices.entry import CatalogueEntry, entry_of
from planner.devices.names import nearest, resolve
from trimtab.errors import Problem, SpecError
from trimtab.inventory import DeviceType

_FILE = Path(__file__).with_name("catalogue.json")


@cache
def raw_entries() -> Mapping[str, Mapping[str, Any]]:
    """What ``catalogue.json`` says of each device type, by canonical name: its keys, every figure with its source and date."""
    document = json.loads(_FILE.read_text(encoding="utf-8"))
    sources: dict[str, dict[str, str]] = document["sources"]

    def cited(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cited(item) for key, item in value.items()}
        if isinstance(value, list) and len(value) == 2 and value[1] in sources:
            return value[0], sources[value[1]]["title"], sources[value[1]]["date"]
        return value

    nodes = cited(document["nodes"])
    found = {raw["name"]: {**cited(raw), "storage": nodes[raw["storage"]]} for raw in document["devices"]}
    return MappingProxyType(found)


@cache
def entries() -> Mapping[str, CatalogueEntry]:
    """All entries by canonical name."""
    return MappingProxyType({name: entry_of(raw) for name, raw in raw_entries().items()})


def with_own(raws: Iterable[Mapping[str, Any]]) -> Mapping[str, CatalogueEntry]:
    """All entries by canonical name, those of ``raws`` (as ``raw_entries`` has them) in place of or behind the catalogue's."""
    own = {str(entry.device_type.name): entry for entry in map(entry_of, raws)}
    return MappingProxyType({**entries(), **own})


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
