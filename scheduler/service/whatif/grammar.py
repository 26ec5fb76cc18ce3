"""The words of a what-if question: ``devices+8``, ``price*0.7``, ``type=H100-SXM5-80GB``, ``nodes+1,network*2``.

    question = change {"," change}
    change   = field operator value
    operator = "=" | "+" | "-" | "*"

Which operators and values a field takes stands in ``_RULES``. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from trimtab.errors import Problem, SpecError
from trimtab.spec import units
from trimtab.spec.fields import nearest
from trimtab.strategy import Precision

_CHANGE = re.compile(r"\s*([A-Za-z_-]+)\s*([=+*-])\s*(.*?)\s*", re.DOTALL)
_MAX_LENGTH = 400
_MAX_AMOUNT = 1e15


class ChangedField(StrEnum):
    """What a question changes, in the order in which the changes of one question are applied."""

    TYPE = "type"
    MEMORY = "memory"
    NETWORK = "network"
    NODES = "nodes"
    PRICE = "price"
    PRECISION = "precision"
    BATCH = "batch"
    SEQUENCE = "sequence"
    DEADLINE = "deadline"
    DEVICES = "devices"


class ChangeKind(StrEnum):
    """How a value is changed; the values are the operators."""

    SET = "="
    ADD = "+"
    SUBTRACT = "-"
    TIMES = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldChange:
    """One change. ``amount`` is in the base unit of the field (count, bytes, bytes/s, seconds, US dollars), a plain factor for
    TIMES; ``word`` is the value of a field that holds a name. ``text`` is the change as it was typed."""

    field: ChangedField
    kind: ChangeKind
    text: str
    amount: float = 0.0
    word: str = ""

    def of(self, base: float) -> float:
        """What becomes of ``base``, in its unit."""
        if self.kind is ChangeKind.SET:
            return self.amount
        if self.kind is ChangeKind.TIMES:
            return base * self.amount
        return base + self.amount if self.kind is ChangeKind.ADD else base - self.amount


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What a field takes: operators, the reader of an amount (None: a name, one of ``words`` where they are closed)."""

    operators: tuple[ChangeKind, ...]
    example: str
    reader: Callable[[object], float] | None = None
    words: tuple[str, ...] = ()


_ALL = tuple(ChangeKind)
_SCALED = (ChangeKind.SET, ChangeKind.TIMES)
_NAMED = (ChangeKind.SET,)
_RULES: Mapping[ChangedField, _Rule] = {
    ChangedField.TYPE: _Rule(operators=_NAMED, example="type=H100-SXM5-80GB"),
    ChangedField.MEMORY: _Rule(operators=_SCALED, example="memory*2 or memory=141GB", reader=units.size_bytes),
    ChangedField.NETWORK: _Rule(operators=_SCALED, example="network*2 or network=800 Gbit/s", reader=units.bandwidth_bytes_per_s),
    ChangedField.NODES: _Rule(operators=_ALL, example="nodes+1", reader=units.count),
    ChangedField.PRICE: _Rule(operators=_ALL, example="price*0.7 or price=2.1", reader=units.usd),
    ChangedField.PRECISION: _Rule(operators=_NAMED, example="precision=fp8", words=tuple(p.value for p in Precision)),
    ChangedField.BATCH: _Rule(operators=_ALL, example="batch*2", reader=units.count),
    ChangedField.SEQUENCE: _Rule(operators=_ALL, example="sequence=8192", reader=units.count),
    ChangedField.DEADLINE: _Rule(operators=_ALL, example="deadline=12h", reader=units.duration_s),
    ChangedField.DEVICES: _Rule(operators=_ALL, example="devices+8", reader=units.count),
}


def parse_changes(text: str) -> tuple[WorldChange, ...]:
    """The changes of one question, in the order in which they are applied.

    Raises SpecError with every problem: what was found, what is allowed, and the nearest choice.
    """
    if len(text) > _MAX_LENGTH:
        raise SpecError([_problem(text[:40] + "...", f"{len(text)} characters", allowed=f"at most {_MAX_LENGTH}")])
    found: list[WorldChange] = []
    problems: list[Problem] = []
    for part in text.split(","):
        try:
            change = _change(part)
        except SpecError as error:
            problems += error.problems
            continue
        if any(other.field is change.field for other in found):
            problems.append(_problem(text, f"{change.field} is changed twice", allowed="each field once in a question"))
        found.append(change)
    if problems:
        raise SpecError(problems)
    order = list(ChangedField)
    return tuple(sorted(found, key=lambda change: order.index(change.field)))


def _change(part: str) -> WorldChange:
    names = [field.value for field in ChangedField]
    match = _CHANGE.fullmatch(part)
    if match is None:
        near = nearest(part.strip(), names)
        said = f"found '{part.strip()}'" if part.strip() else "found nothing"
        hint = f"'{_RULES[ChangedField(near.strip(chr(39)))].example}'" if near else None
        allowed = f"a field, one of = + - *, and a value; fields: {', '.join(names)}"
        raise SpecError([_problem(part, said, allowed=allowed, nearest_choice=hint)])
    name, operator, value = match[1].lower(), ChangeKind(match[2]), match[3]
    if name not in names:
        raise SpecError(
            [_problem(part, f"unknown field '{match[1]}'", allowed=", ".join(names), nearest_choice=nearest(name, names))]
        )
    field = ChangedField(name)
    rule = _RULES[field]
    if operator not in rule.operators:
        allowed = f"{' '.join(rule.operators)}, such as {rule.example}"
        raise SpecError([_problem(part, f"found '{operator}' for {field}", allowed=allowed)])
    amount, word = (0.0, _word(part, value, rule)) if rule.reader is None else (_amount(part, value, operator, rule), "")
    return WorldChange(field=field, kind=operator, text=part.strip(), amount=amount, word=word)


def _word(part: str, value: str, rule: _Rule) -> str:
    if rule.words and value.lower() in rule.words:
        return value.lower()
    if value and not rule.words:
        return value
    said = f"found '{value}'" if value else "found no value"
    allowed = ", ".join(rule.words) if rule.words else f"a name, such as {rule.example}"
    raise SpecError([_problem(part, said, allowed=allowed, nearest_choice=nearest(value, rule.words))])


def _amount(part: str, value: str, operator: ChangeKind, rule: _Rule) -> float:
    """The value in base units, above 0."""
    reader: Callable[[object], float] | None = units.number if operator is ChangeKind.TIMES else rule.reader
    assert reader is not None
    try:
        amount = float(reader(value))
    except (ValueError, OverflowError) as error:
        said = f"found '{value}'" if value else "found no value"
        raise SpecError([_problem(part, said, allowed=f"{error}; for example {rule.example}")]) from None
    if not 0.0 < amount <= _MAX_AMOUNT:
        raise SpecError([_problem(part, f"found '{value}'", allowed=f"more than 0 and at most {_MAX_AMOUNT:g}")])
    return amount


def _problem(part: str, message: str, *, allowed: str, nearest_choice: str | None = None) -> Problem:
    return Problem(path=f"what-if '{part.strip()}'", message=message, allowed=allowed, nearest=nearest_choice)
