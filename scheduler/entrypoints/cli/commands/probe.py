"""``trimtab probe``: measure the devices of this machine."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import Format, OutputOption, open_session
from scheduler.entrypoints.cli.output import show_one
from scheduler.entrypoints.cli.probetext import probe_lines
from scheduler.entrypoints.cli.probing import run_probe

app = new_command()


class Kind(StrEnum):
    """Kinds of devices that can be measured."""

    CPU = "cpu"
    GPU = "gpu"


@app.command()
def probe(
    ctx: typer.Context,
    devices: Annotated[int | None, typer.Option("--devices", min=1, help="How many devices (all).")] = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="Which devices (GPUs where there are any).")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few points, one pass: to try it out; nothing is kept.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Measure matrix products, memory bandwidth and collectives of this machine's devices; plans use the newest report.

    Let nothing else run meanwhile: what competes with the probe is measured too.
    """
    session = open_session(ctx)
    client = None if quick else session.connect()
    report = run_probe(session.settings, devices=devices, kind=None if kind is None else str(kind), quick=quick)
    if client is not None:
        client.put_probe(report)
    lines = lambda: probe_lines(report, style=session.console.style)  # noqa: E731
    show_one(session.console, output, report, lines=lines, name=report.fingerprint)
