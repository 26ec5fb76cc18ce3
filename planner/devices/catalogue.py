"""The device catalogue: data with a source and a date per figure, read from ``catalogue.json`` beside this module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from planner.devices.entry import CatalogueEntry, Cited, entry_of
from planner.devices.names import nearest, resolve
from trimtab.errors import Problem, SpecError
from trimtab.inventory import DeviceType

_FILE = Path(__file__).with_name("catalogue.json")


@cache
def entries() -> Mapping[str, CatalogueEntry]:
    """All entries by canonical name."""
    document = json.loads(_FILE.read_text(encoding="utf-8"))
    sources: dict[str, dict[str, str]] = document["sources"]

    def cite(pair: list[Any]) -> Cited:
        value, source = pair
        return value, sources[source]["title"], sources[source]["date"]

    found = (entry_of(raw, cite) for raw in document["devices"])
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
