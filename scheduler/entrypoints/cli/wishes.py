"""What an owner wants of several jobs: each is tried, the first failure gives the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer

from scheduler.entrypoints.cli.common import Format, Session
from scheduler.entrypoints.cli.exits import code_of
from scheduler.entrypoints.cli.jobtext import queue_line
from scheduler.entrypoints.cli.output import show_one
from trimtab.client import Client
from trimtab.errors import TrimtabError
from trimtab.views import JobView


def wish(session: Session, jobs: Sequence[str], ask: Callable[[Client, str], JobView], *, output: Format) -> None:
    """Ask for each job; all are asked even when one fails. Ends with the code of the first failure."""
    client = session.connect()
    first: TrimtabError | None = None
    for job in jobs:
        try:
            view = ask(client, job)
        except TrimtabError as error:
            session.console.error(str(error))
            first = first or error
            continue
        _show(session, output, view)
    if first is not None:
        raise typer.Exit(int(code_of(first)))


def _show(session: Session, output: Format, view: JobView) -> None:
    form = Format.JSONL if output is Format.JSON else output
    show_one(session.console, form, view, lines=lambda: [queue_line(view)], name=str(view.id))
