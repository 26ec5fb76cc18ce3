"""``trimtab explain``: why a job is where it is."""

from __future__ import annotations

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.columns import wrapped
from scheduler.entrypoints.cli.common import Format, JobArgument, OutputOption, Session, open_session
from scheduler.entrypoints.cli.output import show_one
from trimtab.views import Explanation, JobView

app = new_command()


@app.command()
def explain(ctx: typer.Context, job: JobArgument, output: OutputOption = Format.TABLE) -> None:
    """Say why a job is where it is, who holds what it needs, and the smallest change that would let it run."""
    session = open_session(ctx)
    client = session.connect()
    view = client.job(job)
    found = client.explain(str(view.id))
    show_one(session.console, output, found, lines=lambda: _lines(session, view, found), name=found.reason)


def _lines(session: Session, view: JobView, found: Explanation) -> list[str]:
    width = session.console.width
    lines = [f"{session.console.style(view.name, 'bold')} ({view.id})  {found.state}  {found.reason}"]
    if found.detail:
        lines += wrapped(found.detail, width=width, first="  why        ")
    for index, holder in enumerate(found.holders):
        lines += wrapped(holder, width=width, first="  held by    " if index == 0 else " " * 13)
    if found.smallest_change:
        lines += wrapped(found.smallest_change, width=width, first="  to run it  ")
    return lines
