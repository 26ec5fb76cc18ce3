"""``trimtab submit``: into the queue, and back."""

from __future__ import annotations

from typing import Annotated

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import FileArgument, Format, OutputOption, open_session
from scheduler.entrypoints.cli.jobtext import queue_line
from scheduler.entrypoints.cli.output import show_one
from scheduler.entrypoints.documents import load_job

app = new_command()


@app.command()
def submit(
    ctx: typer.Context,
    file: FileArgument,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="PLAN", help="Start with this plan; exit 6 if it is out of date.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="TEXT", help="The same key gives the same job, however often it is sent."),
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Put the job of a job file into the queue and return."""
    session = open_session(ctx)
    spec = load_job(file)
    view = session.connect().submit(spec, plan_id=plan, idempotency_key=key)
    show_one(session.console, output, view, lines=lambda: [queue_line(view)], name=str(view.id))
    if output.for_people:
        session.note(f"follow:  trimtab wait {view.id}    why waiting:  trimtab explain {view.id}")
