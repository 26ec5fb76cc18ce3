"""The device catalogue: data with a source and a date per figure, read from ``catalogue.json`` beside this module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from planner.devices.entry import CatalogueEntry, Cited, entry_of
from planner.devices.names import nearest, normalised, resolve
from trimtab.errors import Problem, SpecError
from trimtab.inventory import DeviceType

_FILE = Path(__file__).with_name("catalogue.json")


@cache
def entries() -> Mapping[str, CatalogueEntry]:
    """All bundled entries by canonical name."""
    document = json.loads(_FILE.read_text(encoding="utf-8"))
    sources: dict[str, dict[str, str]] = document["sources"]

    def cite(pair: list[Any]) -> Cited:
        value, source = pair
        return value, sources[source]["title"], sources[source]["date"]

    found = (entry_of(raw, cite) for raw in document["devices"])
    return MappingProxyType({str(entry.device_type.name): entry for entry in found})


def merged(own: Mapping[str, CatalogueEntry]) -> Mapping[str, CatalogueEntry]:
    """The user's own entries over the bundled ones, by canonical name.

    A bundled entry gives up every spelling that the user's entries have, and goes where that is its canonical name.
    """
    taken = {normalised(spelling) for entry in own.values() for spelling in entry.spellings}
    result = dict(own)
    for name, entry in entries().items():
        if normalised(name) not in taken:
            aliases = tuple(alias for alias in entry.aliases if normalised(alias) not in taken)
            result[name] = CatalogueEntry(device_type=entry.device_type, aliases=aliases, figures=entry.figures)
    return MappingProxyType(result)


@cache
def catalogue() -> Mapping[str, DeviceType]:
    """All bundled device types by canonical name."""
    return MappingProxyType({name: entry.device_type for name, entry in entries().items()})


def spellings(known: Mapping[str, CatalogueEntry] | None = None) -> Mapping[str, tuple[str, ...]]:
    """The aliases of each canonical name of ``known``, or of the bundled catalogue."""
    return {name: entry.aliases for name, entry in (entries() if known is None else known).items()}


def device_type(name: str, *, path: str = "device_type", known: Mapping[str, CatalogueEntry] | None = None) -> DeviceType:
    """The device type of that name or alias in ``known``, or in the bundled catalogue.

    Raises SpecError naming ``path``, what is allowed and the nearest name.
    """
    among = entries() if known is None else known
    names = spellings(among)
    canonical = resolve(name, names)
    if canonical is None:
        allowed = ", ".join(sorted(among))
        problem = Problem(path=path, message=f"unknown device type {name!r}", allowed=allowed, nearest=nearest(name, names))
        raise SpecError([problem])
    return among[canonical].device_type


def nearest_name(name: str) -> str | None:
    """The bundled catalogue's name to suggest for an unknown one."""
    return nearest(name, spellings())
