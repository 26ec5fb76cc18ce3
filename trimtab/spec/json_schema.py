"""The published JSON Schemas. ``docs/schema/*.json`` are these, frozen by a test."""

from __future__ import annotations

from typing import Any

from trimtab.spec.schema import INVENTORY, JOB

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def job_schema() -> dict[str, Any]:
    """JSON Schema of the job file."""
    return {"$schema": _DRAFT, "title": "Trimtab job", **JOB.schema()}


def inventory_schema() -> dict[str, Any]:
    """JSON Schema of the inventory file."""
    return {"$schema": _DRAFT, "title": "Trimtab inventory", **INVENTORY.schema()}
