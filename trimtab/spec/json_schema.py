"""The published JSON Schemas. ``docs/schema/*.json`` are these, frozen by a test."""

from __future__ import annotations

from typing import Any

from trimtab.spec.device_schema import DEVICES_FILE, PRICES_FILE
from trimtab.spec.measured_schema import MEASURED_FILE
from trimtab.spec.schema import INVENTORY, JOB

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def job_schema() -> dict[str, Any]:
    """JSON Schema of the job file."""
    return {"$schema": _DRAFT, "title": "Trimtab job", **JOB.schema()}


def inventory_schema() -> dict[str, Any]:
    """JSON Schema of the inventory file."""
    return {"$schema": _DRAFT, "title": "Trimtab inventory", **INVENTORY.schema()}


def devices_schema() -> dict[str, Any]:
    """JSON Schema of a file of one's own device types."""
    return {"$schema": _DRAFT, "title": "Trimtab device types", **DEVICES_FILE.schema()}


def prices_schema() -> dict[str, Any]:
    """JSON Schema of a price file."""
    return {"$schema": _DRAFT, "title": "Trimtab prices", **PRICES_FILE.schema()}


def measured_schema() -> dict[str, Any]:
    """JSON Schema of a file of measured steps."""
    return {"$schema": _DRAFT, "title": "Trimtab measured steps", **MEASURED_FILE.schema()}
