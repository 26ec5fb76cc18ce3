"""``trimtab events``: what happened."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import Format, OutputOption, Session, open_session
from scheduler.entrypoints.cli.jobtext import event_text
from scheduler.entrypoints.cli.output import Column, show_many
from scheduler.entrypoints.cli.words import moment_text
from trimtab.client import Client
from trimtab.errors import UnavailableError
from trimtab.views import EventView
from trimtab.wire import encode

app = new_command()


@app.command()
def events(
    ctx: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Only of this job.")] = None,
    after: Annotated[int, typer.Option("--after", min=0, help="Only events with a higher number.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 1000,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as events happen; Ctrl-C ends it.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show events in order, of one job or of all. With -f and a form for machines: one JSON object per line."""
    session = open_session(ctx)
    client = session.connect()
    if follow:
        _follow(session, client, job, after, output)
        return
    columns: list[Column[EventView]] = [
        Column(header="NUMBER", cell=lambda e: str(e.number), right=True),
        Column(header="TIME", cell=lambda e: moment_text(e.at)),
        Column(header="JOB", cell=lambda e: str(e.job_id or "-")),
        Column(header="EVENT", cell=lambda e: e.kind),
        Column(header="WHAT", cell=event_text),
    ]
    found = client.events(after=after, job=job, limit=limit)
    show_many(session.console, output, found, columns=columns, name=lambda e: str(e.number), empty="no events")


def _follow(session: Session, client: Client, job: str | None, after: int, output: Format) -> None:
    """The stream, taken up again behind the last event after every break."""
    while True:
        try:
            for event in client.follow_events(after=after, job=job):
                after = event.number
                _print(session, event, output)
        except UnavailableError as error:
            session.note(f"{error}; reconnecting")
            time.sleep(0.5)
            client = session.connect()


def _print(session: Session, event: EventView, output: Format) -> None:
    if output.for_people:
        session.console.result(
            f"{event.number:>7}  {moment_text(event.at)}  {event.job_id or '-'}  {event.kind}  {event_text(event)}".rstrip()
        )
    elif output is Format.NAME:
        session.console.result(str(event.number))
    else:
        session.console.result(json.dumps(encode(event), allow_nan=False))
