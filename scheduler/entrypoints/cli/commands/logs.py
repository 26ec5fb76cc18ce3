"""``trimtab logs``: what the ranks printed."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import JobArgument, Session, open_session
from scheduler.entrypoints.cli.exits import CommandError, ExitCode
from scheduler.entrypoints.cli.jobtext import newest_attempt
from trimtab.client import Client, follow_log
from trimtab.errors import UnavailableError
from trimtab.job import JOB_ENDS

app = new_command()


@app.command()
def logs(
    ctx: typer.Context,
    job: JobArgument,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on as it prints, also while queued and through restarts.")
    ] = False,
    rank: Annotated[int, typer.Option("--rank", min=-1, help="Which rank; -1 is the agent's own log.")] = 0,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="Which try (the newest; with -f, from then on).")
    ] = None,
    tail: Annotated[int | None, typer.Option("--tail", min=0, metavar="LINES", help="Only the last lines.")] = None,
) -> None:
    """Print what a rank of a job printed."""
    session = open_session(ctx)
    client = session.connect()
    view = client.job(job)
    newest = newest_attempt(view)
    if newest is None and not follow:
        said = "it ended without a try" if view.state in JOB_ENDS else f"it is {view.state} ({view.reason}); -f waits for it"
        raise CommandError(f"{view.name} ({view.id}) has no log: {said}", ExitCode.ERROR)
    if follow:
        _follow(session, client, str(view.id), rank=rank, attempt=attempt)
        return
    assert newest is not None, "checked above"
    data = _read(client, str(view.id), rank=rank, attempt=attempt or newest.ref.number)
    if tail is not None:
        lines = data.splitlines(keepends=True)
        data = b"".join(lines[len(lines) - tail :]) if tail < len(lines) else data
    _write(data)


def _read(client: Client, job: str, *, rank: int, attempt: int) -> bytes:
    offset = 0
    pieces: list[bytes] = []
    while True:
        data, offset, _ = client.log(job, rank=rank, attempt=attempt, offset=offset, limit=4 << 20)
        if not data:
            return b"".join(pieces)
        pieces.append(data)


def _follow(session: Session, client: Client, job: str, *, rank: int, attempt: int | None) -> None:
    """From the wanted try (the newest) on to the end of the job; a restart of the control process loses nothing."""

    def lost(error: UnavailableError) -> None:
        session.note(f"{error}; reconnecting")
        time.sleep(0.5)
        session.connect()

    shown = attempt
    for piece in follow_log(client, job, rank=rank, attempt=attempt, on_lost=lost):
        if shown not in (None, piece.attempt):
            session.note(f"--- try {piece.attempt} ---")
        shown = piece.attempt
        _write(piece.data)


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
