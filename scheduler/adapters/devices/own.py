"""The planner's catalogue with the user's own device types laid over it, and what the user changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from planner.devices import CatalogueEntry, entries, nearest, prices, raw_entries, resolve, with_own
from scheduler.adapters.documents.tree import read_document
from trimtab.errors import Problem, SpecError
from trimtab.inventory import DeviceType
from trimtab.prices import Price, PriceBook
from trimtab.spec import KnownDevices, parse_devices

Entries = Mapping[str, CatalogueEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure that the user's file states: of a type that the catalogue knows (``before``: its figure, if it has one), or not.

    ``source`` begins with the file's name; ``retrieved_on`` may be empty.
    """

    device_type: str
    figure: str
    value: float
    before: float | None
    is_new_type: bool
    source: str
    retrieved_on: str


def all_entries(path: Path | None, *, now: datetime) -> Entries:
    """The catalogue with the types of the file at ``path`` (None: none). Raises SpecError with every problem of the file."""
    if path is None:
        return entries()
    known = _spellings(entries())

    def find(name: str) -> Mapping[str, object] | None:
        canonical = resolve(name, known)
        return None if canonical is None else raw_entries()[canonical]

    tree, marks = read_document(path)
    suggestions = KnownDevices(find=find, nearest=lambda name: nearest(name, known))
    return with_own(parse_devices(tree, marks, known=suggestions, source=str(path), now=now))


def types_by_spelling(found: Entries) -> Mapping[str, DeviceType]:
    """Device types by their names and other spellings, without those that hold a space."""
    others = {alias: entry.device_type for entry in found.values() for alias in entry.aliases if " " not in alias}
    return {**others, **{name: entry.device_type for name, entry in found.items()}}


def resolver(found: Callable[[], Entries]) -> Callable[[str], str]:
    """Turns any spelling of a type into its name. What it gives raises SpecError with the nearest name for an unknown one."""

    def name_of(spelled: str) -> str:
        known = _spellings(found())
        canonical = resolve(spelled, known)
        if canonical is None:
            near = nearest(spelled, known)
            problem = Problem(
                path="device",
                message=f"unknown device type '{spelled}'",
                allowed=", ".join(sorted(known)),
                nearest=f"'{near}'" if near else None,
            )
            raise SpecError([problem])
        return canonical

    return name_of


def changes(found: Entries) -> tuple[Change, ...]:
    """Every figure that differs in value or origin from the catalogue's, in the order of the types."""
    out: list[Change] = []
    for name, entry in found.items():
        usual = entries().get(name)
        if usual is entry:
            continue
        for figure in entry.figures:
            old = usual.figure(figure.name) if usual else None
            if old != figure:
                out.append(
                    Change(
                        device_type=name,
                        figure=figure.name,
                        value=figure.value,
                        before=old.value if old else None,
                        is_new_type=usual is None,
                        source=figure.source,
                        retrieved_on=figure.retrieved_on,
                    )
                )
    return tuple(out)


def price_book(own: tuple[Price, ...]) -> PriceBook:
    """The user's prices before the bundled ones."""
    return PriceBook(own=own, bundled=prices())


def _spellings(found: Entries) -> Mapping[str, tuple[str, ...]]:
    return {name: entry.aliases for name, entry in found.items()}
