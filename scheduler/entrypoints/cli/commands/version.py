"""``trimtab version``."""

from __future__ import annotations

import platform
from importlib import metadata

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.columns import table
from scheduler.entrypoints.cli.common import Format, OutputOption, open_session
from scheduler.entrypoints.cli.output import show_data

app = new_command()

_PARTS = ("trimtab", "pulp", "highspy", "numpy", "fastapi", "uvicorn", "apsw", "torch", "ray", "kubernetes")


@app.command()
def version(ctx: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """Print the versions of Trimtab and of what it uses."""
    session = open_session(ctx)
    found = {"python": platform.python_version(), **{part: _version(part) for part in _PARTS}}
    if output.for_people:
        session.console.lines(table([[name, value or "not installed"] for name, value in found.items()]))
    else:
        show_data(session.console, output, found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
