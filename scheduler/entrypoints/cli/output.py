"""Results in the asked form: tables for people, JSON, JSON lines and YAML for machines, names for pipes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from scheduler.entrypoints.cli.columns import table
from scheduler.entrypoints.cli.common import Format
from scheduler.entrypoints.cli.console import Console
from trimtab.wire import Json, encode

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[T]):
    """One column: header, the cell of an item, whether only ``wide`` shows it, and whether it holds numbers."""

    header: str
    cell: Callable[[T], str]
    wide: bool = False
    right: bool = False


def show_many(
    console: Console,
    form: Format,
    items: Sequence[T],
    *,
    columns: Sequence[Column[T]],
    name: Callable[[T], str],
    empty: str,
    row_styles: Callable[[T], tuple[str, ...]] | None = None,
) -> None:
    """A list. ``empty`` is said on stderr when there is nothing and a person reads."""
    if form is Format.JSON:
        console.result(machine_json([encode(item) for item in items]))
    elif form is Format.JSONL:
        for item in items:
            console.result(json.dumps(encode(item), allow_nan=False))
    elif form is Format.YAML:
        console.result(machine_yaml([encode(item) for item in items]))
    elif form is Format.NAME:
        for item in items:
            console.result(name(item))
    elif not items:
        console.note(empty)
    else:
        shown = [column for column in columns if form is Format.WIDE or not column.wide]
        rows = [[column.cell(item) for column in shown] for item in items]
        right = frozenset(index for index, column in enumerate(shown) if column.right)
        header, *body = table(rows, header=[column.header for column in shown], right=right)
        if row_styles is not None:
            body = [console.style(line, *row_styles(item)) for line, item in zip(body, items, strict=True)]
        console.lines([console.style(header, "bold"), *body])


def show_one(console: Console, form: Format, value: object, *, lines: Callable[[], Iterable[str]], name: str) -> None:
    """One thing."""
    if form.for_people:
        console.lines(lines())
    elif form is Format.NAME:
        console.result(name)
    else:
        show_data(console, form, encode(value))


def show_data(console: Console, form: Format, data: Json) -> None:
    """Plain data for machines."""
    if form is Format.YAML:
        console.result(machine_yaml(data))
    elif form is Format.JSONL:
        console.result(json.dumps(data, allow_nan=False))
    else:
        console.result(machine_json(data))


def machine_json(data: Json) -> str:
    """JSON in lines."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)


def machine_yaml(data: Json) -> str:
    """YAML in the order of the fields."""
    import yaml

    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
    return text
