"""Writes docs/schema/*.json and docs/job-file.md from ``trimtab.spec``; a test fails while they differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from trimtab.spec import devices_schema, inventory_schema, job_schema, measured_schema, prices_schema
from trimtab.spec.device_schema import DEVICES_FILE, PRICES_FILE
from trimtab.spec.fields import Boolean, Choice, CountRange, Day, Field, FieldType, ListOf, MapOf, Object, Quantity, Text
from trimtab.spec.measured_schema import MEASURED_FILE
from trimtab.spec.schema import INVENTORY, JOB

DOCS = Path(__file__).resolve().parent.parent / "docs"
_INTRODUCTION = """\
# The files that people write

Generated from `trimtab/spec/schema.py` by `tools/write_schemas.py`; do not edit. The JSON Schemas are
[job](schema/job.schema.json), [inventory](schema/inventory.schema.json), [devices](schema/devices.schema.json),
[prices](schema/prices.schema.json) and [measured steps](schema/measured.schema.json): name one in the
first line of a file (`# yaml-language-server: $schema=...`) and an editor completes and checks it. An unknown key, a
wrong unit or an impossible value is an error with line, column, what is allowed and the nearest valid choice. A
quantity that has a unit must say it: `30s`, `80GiB`,
`400 Gbit/s`. Examples: `examples/*/job.yaml`.
"""

_DEVICES = """\
Found by `--device-file FILE`, else `TRIMTAB_DEVICES`, else `devices.yaml` in the state folder. An entry whose name the catalogue
([devices.md](devices.md)) knows replaces the figures that it states and leaves the others; a new name adds a type. A figure is a
value, or a mapping that says where the value comes from: `memory_bandwidth_gb_per_s: {value: 2900, source: our own probe, date:
2026-11-02}`. Every number that rests on it names the file. `trimtab check` lists what was changed.

```yaml
devices:
  - name: H100                       # any spelling of the catalogue
    source: our own cluster
    date: 2026-11-02
    memory_bandwidth_gb_per_s: 2900
    network: {bandwidth_gb_per_s: 25}
    storage: {network_write_gb_per_s: {value: 6, source: measured with fio}}
  - name: NPU-9
    kind: gpu
    memory_gib: 64
    memory_bandwidth_gb_per_s: 1600
    peak_tflops: {bf16: 376}
```

"""
_PRICES = """\
Found by `--price-file FILE`, else `TRIMTAB_PRICES`, else `prices.yaml` in the state folder. A price is for the pools of a pattern
(`pool`; the first that fits counts) or for a type of device (`device`, `provider`, `region`); the latter goes before the bundled
price of the same place. An offer of an inventory file that names no price gets the cheapest that fits its device type, market,
`provider` and `region`. A price of more than 90 days is used with a warning.

```yaml
prices:
  - {pool: local-*, market: on-demand, usd_per_device_hour: 2.10, source: our contract, date: 2026-11-01}
  - {device: H100, provider: acme, region: eu-1, market: spot, usd_per_device_hour: 0.95, source: their page, date: 2026-11-20}
```

"""
_MEASURED = """\
For `trimtab calibrate --from FILE`; see [calibration.md](calibration.md).

```yaml
measurements:
  - job: job.yaml
    device: H100
    nodes: 2
    framework: torchtitan
    strategy: {fsdp: 16, micro_batch: 2, recompute: full}
    steps_s: [9.8, 6.31, 6.28, 6.33]
    drop_first: 1
```

"""
_SECTIONS = (
    ("Job file", "", JOB),
    ("Inventory file", "", INVENTORY),
    ("Device file", _DEVICES, DEVICES_FILE),
    ("Price file", _PRICES, PRICES_FILE),
    ("Measured steps", _MEASURED, MEASURED_FILE),
)
SCHEMAS = {
    "job": job_schema(),
    "inventory": inventory_schema(),
    "devices": devices_schema(),
    "prices": prices_schema(),
    "measured": measured_schema(),
}


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
        case Day():
            return "date"
        case ListOf():
            return f"list of {'mappings' if isinstance(kind.item, Object) else describe(kind.item)}"
        case Object(shorthand="value"):
            return f"{describe(kind.fields['value'].kind)}, or `value`, `source`, `date`"
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
        if isinstance(inner, Object) and inner.shorthand != "value":
            yield from rows(f"{prefix}{name}{'[]' if isinstance(field.kind, ListOf) else ''}.", dict(inner.fields))


def job_file_page() -> str:
    """The page docs/job-file.md."""
    parts = [_INTRODUCTION]
    for title, text, root in _SECTIONS:
        parts.append(
            f"## {title}\n\n{text}| Key | Value | Meaning |\n|---|---|---|\n" + "\n".join(rows("", dict(root.fields))) + "\n"
        )
    return "\n".join(parts)


def main() -> None:
    """Write the schemas and the page."""
    for name, schema in SCHEMAS.items():
        (DOCS / "schema" / f"{name}.schema.json").write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
    (DOCS / "job-file.md").write_text(job_file_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
