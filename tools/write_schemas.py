"""Writes docs/schema/*.json from ``trimtab.spec``; a test fails while they differ."""

from __future__ import annotations

import json
from pathlib import Path

from trimtab.spec import inventory_schema, job_schema

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schema"


def main() -> None:
    """Write both files."""
    for name, schema in (("job", job_schema()), ("inventory", inventory_schema())):
        (FOLDER / f"{name}.schema.json").write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
