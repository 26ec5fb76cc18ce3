"""Writes docs/schema/*.json and docs/job-file.md from ``trimtab.spec``; a test fails while they differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from trimtab.spec import inventory_schema, job_schema
from trimtab.spec.fields import Boolean, Choice, CountRange, Field, FieldType, ListOf, MapOf, Object, Quantity, Text
from trimtab.spec.schema import INVENTORY, JOB

DOCS = Path(__file__).resolve().parent.parent / "docs"
_INTRODUCTION = """\
# The job file and the inventory file

Generated from `trimtab/spec/schema.py` by `tools/write_schemas.py`; do not edit. The JSON Schemas are
[job.schema.json](schema/job.schema.json) and [inventory.schema.json](schema/inventory.schema.json): name one in the
first line of a file (`# yaml-language-server: $schema=...`) and an editor completes and checks it. An unknown key, a
wrong unit or an impossible value is an error with line, column, what is allowed and the nearest valid choice. A
quantity that has a unit must say it: `30s`, `80GiB`,
`400 Gbit/s`. Examples: `examples/*/job.yaml`.
"""


def describe(kind: FieldType) -> str:
    """What a value looks like, in a few words."""
    match kind:
        case Choice():
            return " \\| ".join(f"`{member.value}`" for member in kind.enum)
        case Boolean():
            return "`true` \\| `false`"
        case CountRange():
            return "`2`, `1..8`, `2..`"
        case Quantity():
            name = getattr(kind.reader, "__name__", "number")
            return {
                "count": "whole number",
                "duration_s": "duration",
                "size_bytes": "size",
                "bandwidth_bytes_per_s": "bandwidth",
                "usd": "US dollars",
                "fraction": "fraction or %",
            }.get(name, "number")
        case Text():
            return "text"
        case ListOf():
            return f"list of {'mappings' if isinstance(kind.item, Object) else describe(kind.item)}"
        case MapOf():
            return f"mapping to {describe(kind.item)}"
        case _:
            return "mapping"


def rows(prefix: str, fields: dict[str, Field]) -> Iterator[str]:
    """Table rows of an object, its nested objects behind it."""
    for name, field in fields.items():
        inner = field.kind.item if isinstance(field.kind, ListOf | MapOf) else field.kind
        must = " **required**" if field.required else ""
        yield f"| `{prefix}{name}` | {describe(field.kind)} | {field.doc}{must} |"
        if isinstance(inner, Object):
            yield from rows(f"{prefix}{name}{'[]' if isinstance(field.kind, ListOf) else ''}.", dict(inner.fields))


def job_file_page() -> str:
    """The page docs/job-file.md."""
    parts = [_INTRODUCTION]
    for title, root in (("Job file", JOB), ("Inventory file", INVENTORY)):
        parts.append(f"## {title}\n\n| Key | Value | Meaning |\n|---|---|---|\n" + "\n".join(rows("", dict(root.fields))) + "\n")
    return "\n".join(parts)


def main() -> None:
    """Write all three files."""
    for name, schema in (("job", job_schema()), ("inventory", inventory_schema())):
        (DOCS / "schema" / f"{name}.schema.json").write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
    (DOCS / "job-file.md").write_text(job_file_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
