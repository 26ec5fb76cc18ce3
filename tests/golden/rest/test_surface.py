"""The REST surface: addresses, methods, parameters and answers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from scheduler.adapters.identity.local import LocalIdentity
from scheduler.entrypoints.rest.app import create_app
from scheduler.entrypoints.rest.context import RestContext
from scheduler.entrypoints.rest.peer import user_name
from tests.golden.golden import check_golden
from tests.support.kit import Rig

HERE = Path(__file__).parent


def document() -> dict[str, Any]:
    context = RestContext(
        service=Rig().control, metrics=lambda: b"", user_name=user_name, identity=LocalIdentity(user_name(os.geteuid()))
    )
    return create_app(context, version="0").openapi()


def surface(found: dict[str, Any]) -> str:
    """What a caller depends on, without wording that may differ between versions of the framework."""
    lines = []
    for path, methods in sorted(found["paths"].items()):
        for method, operation in sorted(methods.items()):
            lines.append(f"{method.upper()} {path}")
            for parameter in operation.get("parameters", []):
                need = "required" if parameter["required"] else "optional"
                lines.append(f"    {parameter['in']} {parameter['name']} ({need})")
            body = operation.get("requestBody", {}).get("content", {})
            lines += [f"    body {media} {_name(content['schema'])}" for media, content in sorted(body.items())]
            for status, answer in sorted(operation["responses"].items()):
                for media, content in sorted(answer.get("content", {}).items()):
                    lines.append(f"    {status} {media} {_name(content.get('schema', {}))}".rstrip())
    return "\n".join(lines) + "\n"


def _name(schema: dict[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2] or str(schema.get("type", ""))


def test_surface() -> None:
    check_golden(surface(document()), HERE / "surface.txt")


def test_fields_of_every_answer() -> None:
    schemas = document()["components"]["schemas"]
    fields = {name: sorted(schema.get("properties", schema.get("enum", {}))) for name, schema in sorted(schemas.items())}
    check_golden(json.dumps(fields, indent=1) + "\n", HERE / "fields.json")


def test_every_operation_says_what_it_does() -> None:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), f"{method} {path}"
