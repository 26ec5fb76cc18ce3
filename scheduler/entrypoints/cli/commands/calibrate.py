"""``trimtab calibrate``: correct predictions by measured steps."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.calibratetext import calibration_lines
from scheduler.entrypoints.cli.calibrating import forget_runs, measure_file, measure_job, multipliers_of
from scheduler.entrypoints.cli.common import DeviceFileOption, Format, OutputOption, open_session, usage
from scheduler.entrypoints.cli.output import show_data
from trimtab.wire import encode

app = new_command()


@app.command()
def calibrate(
    ctx: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="A finished job of ours.")] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Measured steps of runs from elsewhere (YAML or JSON).")
    ] = None,
    drop_first: Annotated[
        int, typer.Option("--drop-first", min=0, max=49, metavar="N", help="Of steps_s in FILE the first N are warm-up.")
    ] = 0,
    show: Annotated[bool, typer.Option("--list", help="Show every run that is kept and the multipliers.")] = False,
    forget: Annotated[
        str | None,
        typer.Option("--forget", metavar="KEY", help="Take out a run, a key (device/framework/basis) or a device type."),
    ] = None,
    device_file: DeviceFileOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Correct predicted step times by measured ones. Plans use what is kept from then on.

    Finished training jobs of this installation are taken in by themselves. Runs from elsewhere come from a file. Each is shown
    with its prediction before and after.
    """
    session = open_session(ctx).with_files(devices=device_file, prices=None)
    if sum((job is not None, source is not None, show, forget is not None)) != 1:
        raise usage("one of JOB, --from FILE, --list and --forget KEY is needed")
    if drop_first and source is None:
        raise usage("--drop-first goes with --from FILE")
    if session.settings.server is not None:
        raise usage("TRIMTAB_SERVER names the control process of somebody else: its owner calibrates")
    now = datetime.now(UTC)
    sources: frozenset[str] | None = None
    if forget is not None:
        gone = forget_runs(session, forget)
        session.note(f"forgotten: {', '.join(sorted(gone))}")
    elif source is not None:
        sources = measure_file(session, source, drop_first=drop_first, now=now)
    elif job is not None:
        sources = measure_job(session, job)
    found = multipliers_of(session, sources, now=now)
    if output is Format.NAME:
        session.console.lines(str(entry.key) for entry in found)
    elif not output.for_people:
        show_data(session.console, output, encode(found))
    elif found:
        session.console.lines(calibration_lines(found, sources=sources, style=session.console.style))
    else:
        session.note("no measured run is kept; finished training jobs are taken in by themselves")
