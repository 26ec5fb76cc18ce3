"""``trimtab get``: one job."""

from __future__ import annotations

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import Format, JobArgument, OutputOption, open_session
from scheduler.entrypoints.cli.jobtext import job_lines
from scheduler.entrypoints.cli.output import show_one

app = new_command()


@app.command()
def get(ctx: typer.Context, job: JobArgument, output: OutputOption = Format.TABLE) -> None:
    """Show everything about one job: state, progress, attempts, cost, prediction against measurement."""
    session = open_session(ctx)
    view = session.connect().job(job)
    show_one(session.console, output, view, lines=lambda: job_lines(view, style=session.console.style), name=str(view.id))
