"""The user's own device types: YAML text with the keys and units of the bundled catalogue.

::

    devices:
      - name: Acme-X1
        aliases: [acme-x1-64g]             # optional
        kind: gpu                          # cpu, gpu or tpu
        source: Acme X1 data sheet         # of every figure that names no other
        date: 2026-01-05
        memory_gib: 64
        memory_bandwidth_gb_per_s: {value: 2400, source: measured here, date: 2026-02-01}
        peak_tflops: {fp32: 40, bf16: 320} # dense
        link: {name: AcmeLink, bandwidth_gb_per_s: 200, latency_us: 5, domain_size: 8}   # optional; one way
        devices_per_node: 8                # optional
        torus: {axes: 16x16, slices: [2x2, 4x4, 16x16], ring_length: 16, in_cubes: false, link_bandwidth_gb_per_s: 50}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from types import MappingProxyType
from typing import Any

from planner.devices.entry import PEAKS, CatalogueEntry, Cited, entry_of
from planner.devices.names import normalised
from planner.devices.yamltext import read_yaml
from trimtab.errors import SpecError
from trimtab.inventory import DeviceKind, DeviceType
from trimtab.spec.fields import INVALID, Boolean, Choice, Field, FieldType, ListOf, Object, Quantity, Reading, Text
from trimtab.spec.units import count, number

_NAME = Text(pattern=r"[A-Za-z0-9][A-Za-z0-9 ._/+-]*", allowed="letters, digits, spaces and ._/+-", max_length=128)
_SOURCE = Text(pattern=r"(?s)\s*\S.*", allowed="text that says where the figure comes from", max_length=512)
_DATE = Text(pattern=r"[0-9]{4}-[0-9]{2}-[0-9]{2}", allowed="a date such as 2026-01-05", max_length=10)
_SHAPE = Text(pattern=r"[1-9][0-9]{0,4}(x[1-9][0-9]{0,4}){0,5}", allowed="lengths of the axes such as 16x16", max_length=40)
_LINK_TOLERANCE_FRAC = 0.01


def _figure(kind: FieldType, doc: str, *, required: bool = True) -> Field:
    cited = {
        "value": Field(kind=kind, doc=doc, required=True),
        "source": Field(kind=_SOURCE, doc="Where this figure comes from; the device's source by default."),
        "date": Field(kind=_DATE, doc="Day of this figure; the device's date by default."),
    }
    return Field(kind=Object(fields=cited, shorthand="value"), doc=doc, required=required)


def _amount(high: float) -> FieldType:
    return Quantity(reader=number, low=0, high=high, text=False, above=True)


def _count(low: int) -> FieldType:
    return Quantity(reader=count, low=low, high=1e6, text=False)


_LINK = Object(
    fields={
        "name": Field(kind=_NAME, doc="Name of the link.", required=True),
        "bandwidth_gb_per_s": _figure(_amount(1e6), "All that one device sends, one way, in GB/s."),
        "latency_us": _figure(Quantity(reader=number, low=0, high=1e6, text=False), "Latency of one message in microseconds."),
        "domain_size": _figure(_count(1), "Devices that the link joins; 1 by default.", required=False),
    }
)
_TORUS = Object(
    fields={
        "axes": _figure(_SHAPE, "Largest slice, such as 16x16."),
        "slices": _figure(ListOf(item=_SHAPE), "Slices that can be had."),
        "ring_length": _figure(_count(2), "An axis closes into a ring where its length is a multiple of this."),
        "in_cubes": Field(kind=Boolean(), doc="Whether the axes close only all together.", required=True),
        "link_bandwidth_gb_per_s": _figure(_amount(1e6), "One link, one way, in GB/s."),
    }
)
_PEAKS = Object(fields={name: _figure(_amount(1e6), f"Dense {name} TFLOP/s.", required=False) for name in PEAKS})
_DEVICE = Object(
    fields={
        "name": Field(kind=_NAME, doc="Name of the device type.", required=True),
        "aliases": Field(kind=ListOf(item=_NAME, max_items=64), doc="Other spellings."),
        "kind": Field(kind=Choice(enum=DeviceKind), doc="Family of hardware.", required=True),
        "source": Field(kind=_SOURCE, doc="Where the figures come from that name no source."),
        "date": Field(kind=_DATE, doc="Day of the figures that name no date."),
        "memory_gib": _figure(_amount(1e5), "Memory of one device in GiB."),
        "memory_bandwidth_gb_per_s": _figure(_amount(1e6), "Memory bandwidth in GB/s."),
        "peak_tflops": Field(kind=_PEAKS, doc="Dense peaks in TFLOP/s by precision.", required=True),
        "link": Field(kind=_LINK, doc="Link to the other devices of the domain."),
        "devices_per_node": _figure(_count(1), "Devices of the usual node.", required=False),
        "torus": Field(kind=_TORUS, doc="Grid that the link is made of."),
    }
)
_FILE = Object(fields={"devices": Field(kind=ListOf(item=_DEVICE, single=False), doc="The device types.", required=True)})


def read_devices(text: str, *, source: str) -> Mapping[str, CatalogueEntry]:
    """The device types of a user's YAML text by name, in its order; ``catalogue.merged`` puts them over the bundled ones.

    ``source`` names the text in messages. Raises SpecError listing every problem: field, line, what was found, what is allowed
    and the nearest valid choice.
    """
    tree, marks = read_yaml(text, source=source)
    reading = Reading(marks)
    values = _FILE.read(reading, "", tree)
    found: dict[str, CatalogueEntry] = {}
    taken: dict[str, str] = {}
    parts = tree.get("devices") if isinstance(tree, dict) else None
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        _check_spellings(reading, f"devices[{index}]", part, taken)
        _check_origins(reading, f"devices[{index}]", part)
    if values is not INVALID and not reading.problems:
        for index, part in enumerate(values["devices"]):
            entry = _entry(reading, f"devices[{index}]", part)
            if entry is not None:
                found[part["name"]] = entry
    if reading.problems:
        raise SpecError(sorted(reading.problems, key=lambda p: (p.line or 0, p.column or 0)), source=source)
    return MappingProxyType(found)


def _check_spellings(reading: Reading, where: str, part: Any, taken: dict[str, str]) -> None:
    """No spelling may stand for two of the user's devices; spellings are compared as names are looked up."""
    if not isinstance(part, dict):
        return
    aliases = part.get("aliases", ())
    own = [("name", part.get("name")), *(("aliases", alias) for alias in (aliases if isinstance(aliases, list) else [aliases]))]
    for key, spelling in own:
        if not isinstance(spelling, str):
            continue
        holder = taken.setdefault(normalised(spelling), where)
        if holder != where:
            reading.problem(f"{where}.{key}", f"'{spelling}' stands for {holder} already", allowed="a spelling of its own")


def _check_origins(reading: Reading, where: str, part: Any) -> None:
    """Every figure has a source and a true date, its own or the device's."""
    if not isinstance(part, dict):
        return
    _check_date(reading, f"{where}.date", part.get("date"))
    for path, figure in _figures(part, where):
        own = figure if isinstance(figure, dict) else {}
        _check_date(reading, f"{path}.date", own.get("date"))
        for key, needed in (("source", "a source"), ("date", "a date")):
            if key not in own and key not in part:
                allowed = f"{needed} at the figure, or one at the device for all its figures"
                reading.problem(f"{path}.{key}", f"the figure has no {key}", allowed=allowed)


def _check_date(reading: Reading, path: str, text: Any) -> None:
    if isinstance(text, str) and _is_like_a_date(text):
        try:
            date.fromisoformat(text)
        except ValueError:
            reading.problem(path, f"found '{text}'", allowed="a day that there is, such as 2026-01-05")


def _is_like_a_date(text: str) -> bool:
    return len(text) == 10 and text[4] == text[7] == "-" and text.replace("-", "").isdigit()


def _figures(part: Mapping[str, Any], where: str, fields: Mapping[str, Field] = _DEVICE.fields) -> Iterator[tuple[str, Any]]:
    """The figures that stand in a device, whatever they hold, with their paths."""
    for key, value in part.items():
        kind = fields[key].kind if key in fields else None
        if isinstance(kind, Object) and kind.shorthand:
            yield f"{where}.{key}", value
        elif isinstance(kind, Object) and isinstance(value, dict):
            yield from _figures(value, f"{where}.{key}", kind.fields)


def _entry(reading: Reading, where: str, part: Mapping[str, Any]) -> CatalogueEntry | None:
    def cite(figure: Mapping[str, Any]) -> Cited:
        return figure["value"], figure.get("source") or part["source"], figure.get("date") or part["date"]

    if not part["peak_tflops"]:
        reading.problem(f"{where}.peak_tflops", "found no peak", allowed="at least one of " + ", ".join(PEAKS))
        return None
    try:
        entry = entry_of(part, cite)
    except ValueError as error:
        reading.problem(f"{where}.torus", str(error), allowed="slices with as many axes as the largest, none larger than it")
        return None
    _check_torus(reading, where, entry.device_type)
    return entry


def _check_torus(reading: Reading, where: str, made: DeviceType) -> None:
    torus, link = made.torus, made.link
    if torus is None:
        return
    if link is None:
        reading.problem(f"{where}.torus", "a torus without a link", allowed="a link that says what all links of one device carry")
        return
    total = torus.num_links * torus.link_bandwidth_bytes_per_s
    if abs(total - link.bandwidth_bytes_per_s) > _LINK_TOLERANCE_FRAC * total:
        message = f"found {link.bandwidth_bytes_per_s / 1e9:g}, but the {torus.num_links} links of a device carry {total / 1e9:g}"
        reading.problem(f"{where}.link.bandwidth_gb_per_s", message, allowed="the sum of the links", nearest=f"{total / 1e9:g}")
    if made.domain_size < torus.num_devices:
        message = f"found {made.domain_size}, but the largest slice has {torus.num_devices} devices"
        path = f"{where}.link.domain_size"
        reading.problem(path, message, allowed=f"at least {torus.num_devices}", nearest=f"{torus.num_devices}")
