"""A file of one's own device types: figures in place of the catalogue's, and types that the catalogue does not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trimtab.errors import SpecError
from trimtab.inventory import Torus
from trimtab.prices import newest_day
from trimtab.spec.device_schema import DEVICES_FILE
from trimtab.spec.fields import INVALID, Marks, Reading

Raw = Mapping[str, Any]
"""One device type with the keys of the catalogue, every figure as (value, source, ISO date)."""

_FIGURES = ("memory_gib", "memory_bandwidth_gb_per_s", "devices_per_node")
_GROUPS = ("peak_tflops", "link", "network", "storage", "torus")
_NEEDED = ("kind", "memory_gib", "memory_bandwidth_gb_per_s", "peak_tflops")
_NEEDED_IN = {
    "link": ("bandwidth_gb_per_s", "latency_us"),
    "network": ("bandwidth_gb_per_s", "latency_us"),
    "torus": ("axes", "slices", "ring_length", "in_cubes", "link_bandwidth_gb_per_s"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDevices:
    """What is known without the file: ``find`` an entry by any spelling, ``nearest`` suggests a name for an unknown one."""

    find: Callable[[str], Raw | None]
    nearest: Callable[[str], str | None]


def parse_devices(
    tree: object, marks: Marks | None = None, *, known: KnownDevices, source: str, now: datetime
) -> tuple[Raw, ...]:
    """The file's types, each whole: a known one with the file's figures in place of its own.

    The source of a figure begins with the file's name. Raises SpecError with every problem found: an unknown key, a value of
    the wrong kind, a new type with a figure missing, a name or spelling that stands twice, a date that is yet to come.
    """
    reading = Reading(marks or Marks())
    values = DEVICES_FILE.read(reading, "", tree)
    found: list[Raw] = []
    if values is not INVALID and INVALID not in values.values() and not reading.problems:
        merging = _Merging(reading, known, source=source, now=now)
        found = [merging.entry(f"devices[{index}]", part) for index, part in enumerate(values["devices"])]
    if reading.problems:
        raise SpecError(reading.problems, source=source)
    return tuple(found)


class _Merging:
    """Lays the entries of one file over what is known."""

    def __init__(self, reading: Reading, known: KnownDevices, *, source: str, now: datetime) -> None:
        self._reading = reading
        self._known = known
        self._source = source
        self._newest = newest_day(now).isoformat()
        self._names: dict[str, str] = {}

    def entry(self, where: str, part: Raw) -> Raw:
        base = self._known.find(part["name"])
        cited = self._cited(where, part)
        name = base["name"] if base else part["name"]
        merged = {**(base or {}), **cited, "name": name}
        merged["aliases"] = tuple(dict.fromkeys((*(base or {}).get("aliases", ()), *part.get("aliases", ()))))
        for group in _GROUPS:
            if group in cited and base and group in base:
                merged[group] = {**base[group], **cited[group]}
        self._check_names(where, part, str(name))
        self._check_whole(where, part, merged, base is not None)
        return merged

    def _cited(self, where: str, part: Raw) -> dict[str, Any]:
        """The part's figures with their sources; what is no figure as it stands."""

        def cite(path: str, figure: Raw) -> tuple[Any, str, str]:
            stated, day = figure.get("source", part.get("source")), figure.get("date", part.get("date", ""))
            if day > self._newest:
                own = "date" in figure
                self._reading.problem(
                    f"{path}.date" if own else f"{where}.date", f"{day} is yet to come", allowed=f"at most {self._newest}"
                )
            return figure["value"], f"{self._source}: {stated}" if stated else self._source, day

        out: dict[str, Any] = {"kind": part["kind"]} if "kind" in part else {}
        for key in _FIGURES:
            if key in part:
                out[key] = cite(f"{where}.{key}", part[key])
        for group in _GROUPS:
            if group in part:
                out[group] = {
                    key: cite(f"{where}.{group}.{key}", item) if isinstance(item, dict) else item
                    for key, item in part[group].items()
                }
        return out

    def _check_names(self, where: str, part: Raw, name: str) -> None:
        if name in self._names.values():
            self._reading.problem(f"{where}.name", f"'{name}' is there twice", allowed="each type once")
            return
        for spelled in (name, *part.get("aliases", ())):
            other = self._known.find(spelled)
            owner = str(other["name"]) if other else self._names.setdefault(_plain(spelled), name)
            if owner != name:
                key = "name" if spelled == name else "aliases"
                message = f"'{spelled}' is a spelling of {owner}"
                self._reading.problem(f"{where}.{key}", message, allowed="spellings of this type alone")
        self._names[_plain(name)] = name

    def _check_whole(self, where: str, part: Raw, merged: dict[str, Any], is_known: bool) -> None:
        missing = [key for key in _NEEDED if not merged.get(key)]
        if missing:
            message = f"missing; '{part['name']}' is not in the catalogue, and a new type needs {', '.join(_NEEDED)}"
            for key in missing:
                self._reading.problem(f"{where}.{key}", message, nearest=self._suggestion(part["name"]))
        for group, needed in _NEEDED_IN.items():
            inside = merged.get(group)
            if inside is None:
                continue
            for key in needed:
                if key not in inside:
                    self._reading.problem(f"{where}.{group}.{key}", f"missing; {_whose(is_known, group)}")
            if group != "torus" and "name" not in inside:
                merged[group] = {"name": group, **inside}
        self._check_torus(where, merged)

    def _check_torus(self, where: str, merged: Raw) -> None:
        torus = merged.get("torus")
        if torus is None or any(key not in torus for key in _NEEDED_IN["torus"]):
            return
        try:
            Torus(
                axes=_shape(torus["axes"][0]),
                slices=tuple(_shape(text) for text in torus["slices"][0]),
                ring_length=torus["ring_length"][0],
                in_cubes=torus["in_cubes"],
                link_bandwidth_bytes_per_s=torus["link_bandwidth_gb_per_s"][0],
            )
        except ValueError as error:
            self._reading.problem(f"{where}.torus", str(error))

    def _suggestion(self, name: str) -> str | None:
        nearest = self._known.nearest(name)
        return f"'{nearest}'" if nearest else None


def _plain(name: str) -> str:
    """A name as it is compared: case and separators make no difference."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _whose(is_known: bool, group: str) -> str:
    return f"the catalogue's type has no {group}, so all of it is needed" if is_known else f"a new type needs all of its {group}"


def _shape(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(part) for part in text.split("x")))
