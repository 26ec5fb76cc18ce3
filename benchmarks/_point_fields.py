"""Checked reading of one mapping in a file of points; what is wrong is noted with the row, the field and what is allowed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The fields of one row, model or device at ``path``; ``label`` names it for a person.

    Every method notes a problem and returns a harmless value where the field is wrong, so that all problems are found at once.
    """

    values: Mapping[str, Any]
    path: str
    label: str
    problems: list[Problem]

    def fail(self, name: str, message: str, *, allowed: str | None = None, nearest: str | None = None) -> None:
        """Note a problem with the field ``name``."""
        place = f"{self.path}.{name}" if name else self.path
        self.problems.append(Problem(path=place, message=f"{self.label}: {message}", allowed=allowed, nearest=nearest))

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def integer(self, name: str, *, least: int = 1) -> int | None:
        """A whole number of at least ``least``, or None where the field is not there."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.fail(name, f"found {_shown(value)}", allowed=f"a whole number of at least {least}")
            return None
        return value

    def need_integer(self, name: str, *, least: int = 1) -> int:
        """A whole number that has to be there."""
        self._need(name)
        value = self.integer(name, least=least)
        return least if value is None else value

    def number(self, name: str) -> float | None:
        """A positive finite number, or None where the field is not there."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            self.fail(name, f"found {_shown(value)}", allowed="a number above 0")
            return None
        return float(value)

    def text(self, name: str) -> str | None:
        """Text that is not empty, or None where the field is not there."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip():
            self.fail(name, f"found {_shown(value)}", allowed="text that is not empty")
            return None
        return value

    def need_text(self, name: str) -> str:
        """Text that has to be there."""
        self._need(name)
        return self.text(name) or ""

    def flag(self, name: str) -> bool | None:
        """True or false, or None where the field is not there."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            self.fail(name, f"found {_shown(value)}", allowed="true or false")
            return None
        return value

    def choice(self, name: str, choices: Iterable[str]) -> str | None:
        """One of ``choices``, or None where the field is not there or is none of them."""
        value, known = self.values.get(name), list(choices)
        if value is None or value in known:
            return value
        close = difflib.get_close_matches(str(value), known, n=1)
        listed = ", ".join(known) if len(known) <= 12 else f"one of {len(known)} names of this file"
        self.fail(name, f"found {_shown(value)}", allowed=listed, nearest=close[0] if close else None)
        return None

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of whole numbers of at least 1, or None where the field is not there."""
        value = self.values.get(name)
        if value is None:
            return None
        sound = isinstance(value, list) and value and all(type(item) is int and item >= 1 for item in value)
        if not sound:
            self.fail(name, f"found {_shown(value)}", allowed="a list of whole numbers of at least 1")
            return None
        return tuple(value)

    def _need(self, name: str) -> None:
        if self.values.get(name) is None:
            self.fail(name, "is missing")


def mapping(value: object, *, path: str, label: str, problems: list[Problem]) -> Mapping[str, Any]:
    """``value`` where it is a mapping; otherwise a problem is noted and it is empty."""
    if isinstance(value, dict):
        return value
    problems.append(Problem(path=path, message=f"{label}: found {_shown(value)}", allowed="a mapping of fields"))
    return {}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
