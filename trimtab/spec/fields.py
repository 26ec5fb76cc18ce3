"""The field types of a document: each reads one value from the tree, and describes itself as JSON Schema.

The same objects validate the document and publish its schema, so the two cannot drift apart.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, Protocol

from trimtab.errors import Problem
from trimtab.spec import units

Json = Any
MAX_ITEMS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Line and column (from 1) of keys and values by dotted path (``workload.steps``, ``data.paths[0]``). Empty for a REST
    body."""

    keys: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    values: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class Reading:
    """The problems found so far in one document, and where its parts stand."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.problems: list[Problem] = []

    def problem(
        self, path: str, message: str, *, allowed: str | None = None, nearest: str | None = None, at_key: bool = False
    ) -> None:
        """Note a problem with the value (or the key) at ``path``; a missing field points at its parent."""
        line, column = self._where(path, at_key)
        self.problems.append(Problem(path=path, message=message, line=line, column=column, allowed=allowed, nearest=nearest))

    def _where(self, path: str, at_key: bool) -> tuple[int | None, int | None]:
        first, second = (self.marks.keys, self.marks.values) if at_key else (self.marks.values, self.marks.keys)
        while True:
            mark = first.get(path) or second.get(path)
            if mark is not None:
                return mark
            if not path:
                return None, None
            path = path.rpartition(".")[0]


class FieldType(Protocol):
    """One kind of value."""

    def read(self, reading: Reading, path: str, value: Json) -> Any:
        """The value in its final form; INVALID after noting a problem."""
        ...

    def schema(self) -> dict[str, Json]:
        """JSON Schema (draft 2020-12) of what ``read`` accepts."""
        ...


class _Invalid:
    """Stands for a value that has a problem; later checks skip it."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID = _Invalid()


def nearest(found: str, choices: Sequence[str]) -> str | None:
    """The closest choice in quotes, or None where nothing is close."""
    close = difflib.get_close_matches(found.lower(), [choice.lower() for choice in choices], n=1, cutoff=0.5)
    if not close:
        return None
    return next(f"'{choice}'" for choice in choices if choice.lower() == close[0])


def shown(value: Json) -> str:
    """A found value for a message, shortened."""
    text = repr(value) if isinstance(value, str) else type(value).__name__ if isinstance(value, dict | list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Text of at most ``max_length`` characters that matches ``pattern``; ``allowed`` explains the pattern."""

    pattern: str = r"(?s).*\S.*"
    allowed: str = "text that is not empty"
    max_length: int = 4096

    def read(self, reading: Reading, path: str, value: Json) -> Any:
        """See FieldType."""
        if not isinstance(value, str):
            reading.problem(path, f"found {shown(value)}", allowed=self.allowed + " (quote it if it looks like a number)")
            return INVALID
        if len(value) > self.max_length or not re.fullmatch(self.pattern, value):
            reading.problem(path, f"found {shown(value)}", allowed=f"{self.allowed}, at most {self.max_length} characters")
            return INVALID
        return value

    def schema(self) -> dict[str, Json]:
        """See FieldType."""
        out: dict[str, Json] = {"type": "string", "maxLength": self.max_length}
        if not self.pattern.startswith("(?s)"):
            out["pattern"] = f"^(?:{self.pattern})$"
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A day of the calendar, as ``2026-07-20``."""

    def read(self, reading: Reading, path: str, value: Json) -> Any:
        """See FieldType; the text as it stands."""
        text = str(value)
        try:
            if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
                date.fromisoformat(text)
                return text
        except ValueError:
            pass
        reading.problem(path, f"found {shown(value)}", allowed="a date such as '2026-07-20'")
        return INVALID

    def schema(self) -> dict[str, Json]:
        """See FieldType."""
        return {"type": "string", "format": "date", "maxLength": 10}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of a closed set."""

    enum: type[StrEnum]

    def read(self, reading: Reading, path: str, value: Json) -> Any:
        """See FieldType."""
        choices = [member.value for member in self.enum]
        if value in choices:
            return self.enum(value)
        reading.problem(path, f"found {shown(value)}", allowed=", ".join(choices), nearest=nearest(str(value), choices))
        return INVALID

    def schema(self) -> dict[str, Json]:
        """See FieldType."""
        return {"enum": [member.value for member in self.enum]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Boolean:
    """true or false."""

    def read(self, reading: Reading, path: str, value: Json) -> Any:
        """See FieldType."""
        if isinstance(value, bool):
            return value
        reading.problem(path, f"found {shown(value)}", allowed="true or false")
        return INVALID

    def schema(self) -> dict[str, Json]:
        """See FieldType."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number read by one of ``trimtab.spec.units``, between ``low`` and ``high`` (both allowed)."""

    reader: Callable[[object], float]
    low: float
    high: float
    text: bool = True
    above: bool = False

    def read(self, reading: Reading, path: str, value: Json) -> Any:
        """See FieldType."""
        try:
            result = self.reader(value)
        except ValueError as error:
            reading.problem(path, f"found {shown(value)}", allowed=str(error))
            return INVALID
        if not self.low <= result <= self.high or (self.above and result == self.low):
            closest = min(max(result, self.low), self.high)
            hint = None if self.above and closest == self.low else f"{closest:g}"
            bounds = f"{'more than' if self.above else 'at least'} {self.low:g} and at most {self.high:g}"
            reading.problem(path, f"found {shown(value)}", allowed=bounds, nearest=hint)
            return INVALID
        return result

    def schema(self) -> dict[str, Json]:
        """See FieldType."""
        whole: object = units.count
        kind = "integer" if self.reader is whole else "number"
        plain = {"type": kind, "exclusiveMinimum" if self.above else "minimum": self.low, "maximum": self.high}
        if self.reader in (units.duration_s, units.size_bytes, units.bandwidth_bytes_per_s):
            return {"type": "string"}
        return {"anyOf": [plain, {"type": "string"}]} if self.text else plain


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRange:
    """A whole number or a range of them: ``2``, ``1..8``, ``2..`` (no upper end). Read as (low, high or None)."""

    high: int = 1_000_000

    def read(self, reading: Reading, path: str, value: Json) -> Any:
        """See FieldType."""
        match = None
        if isinstance(value, int | str) and not isinstance(value, bool):
            match = re.fullmatch(r"([0-9]{1,9})(?:(\.\.)([0-9]{1,9})?)?", str(value).strip())
        if match is None:
            reading.problem(path, f"found {shown(value)}", allowed="a number such as 2, or a range such as 1..8 or 2..")
            return INVALID
        low = int(match[1])
        high = low if match[2] is None else int(match[3]) if match[3] else None
        if low < 1 or low > self.high or (high is not None and not low <= high <= self.high):
            allowed = f"at least 1 and at most {self.high}, the lower end first"
            reading.problem(path, f"found {shown(value)}", allowed=allowed, nearest=f"{max(1, min(low, high or low))}")
            return INVALID
        return low, high

    def schema(self) -> dict[str, Json]:
        """See FieldType."""
        pattern = r"^[0-9]{1,9}(\.\.([0-9]{1,9})?)?$"
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": self.high}, {"type": "string", "pattern": pattern}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf:
    """A list, or one value that stands for a list of one."""

    item: FieldType
    max_items: int = MAX_ITEMS
    single: bool = True

    def read(self, reading: Reading, path: str, value: Json) -> Any:
        """See FieldType."""
        if not isinstance(value, list):
            if not self.single:
                reading.problem(path, f"found {shown(value)}", allowed="a list")
                return INVALID
            item = self.item.read(reading, path, value)
            return INVALID if item is INVALID else (item,)
        if len(value) > self.max_items:
            reading.problem(path, f"found {len(value)} items", allowed=f"at most {self.max_items}")
            return INVALID
        items = [self.item.read(reading, f"{path}[{index}]", item) for index, item in enumerate(value)]
        return INVALID if INVALID in items else tuple(items)

    def schema(self) -> dict[str, Json]:
        """See FieldType."""
        listed = {"type": "array", "items": self.item.schema(), "maxItems": self.max_items}
        return {"anyOf": [listed, self.item.schema()]} if self.single else listed


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOf:
    """A mapping with free keys that match ``key_pattern``."""

    item: FieldType
    key_pattern: str
    allowed: str
    max_items: int = 256

    def read(self, reading: Reading, path: str, value: Json) -> Any:
        """See FieldType."""
        if not isinstance(value, dict) or len(value) > self.max_items:
            reading.problem(path, f"found {shown(value)}", allowed=f"a mapping of at most {self.max_items} entries")
            return INVALID
        result = {}
        for key, item in value.items():
            if not isinstance(key, str) or not re.fullmatch(self.key_pattern, key):
                reading.problem(f"{path}.{key}", f"key {shown(key)}", allowed=self.allowed, at_key=True)
                continue
            result[key] = self.item.read(reading, f"{path}.{key}", item)
        return INVALID if INVALID in result.values() else result

    def schema(self) -> dict[str, Json]:
        """See FieldType."""
        return {"type": "object", "additionalProperties": self.item.schema(), "maxProperties": self.max_items}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One key of an object. ``doc`` is a sentence for the schema and the docs page."""

    kind: FieldType
    doc: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """A mapping with known keys. ``shorthand`` names the key that a bare scalar stands for (``devices: 2``)."""

    fields: Mapping[str, Field]
    shorthand: str | None = None

    def read(self, reading: Reading, path: str, value: Json) -> Any:
        """A dict of the keys present with their values read; INVALID where the value is no mapping at all."""
        if self.shorthand and not isinstance(value, dict):
            inner = self.fields[self.shorthand].kind.read(reading, path, value)
            return INVALID if inner is INVALID else {self.shorthand: inner}
        if not isinstance(value, dict):
            found = "nothing" if value is None else shown(value)
            reading.problem(path, f"found {found}", allowed="a mapping with the keys " + ", ".join(self.fields))
            return INVALID
        result = {}
        for key, item in value.items():
            where = f"{path}.{key}" if path else str(key)
            if key not in self.fields:
                names = list(self.fields)
                reading.problem(where, "unknown key", allowed=", ".join(names), nearest=nearest(str(key), names), at_key=True)
            else:
                result[key] = self.fields[key].kind.read(reading, where, item)
        for key, known in self.fields.items():
            if known.required and key not in value:
                where = f"{path}.{key}" if path else key
                reading.problem(where, f"missing; {known.doc[0].lower()}{known.doc[1:]}")
                result[key] = INVALID
        return result

    def schema(self) -> dict[str, Json]:
        """See FieldType."""
        out: dict[str, Json] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: {"description": f.doc, **f.kind.schema()} for name, f in self.fields.items()},
        }
        required = [name for name, f in self.fields.items() if f.required]
        if required:
            out["required"] = required
        if self.shorthand:
            return {"anyOf": [out, self.fields[self.shorthand].kind.schema()]}
        return out
