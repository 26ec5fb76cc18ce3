"""How a command that followed a job ends: the summary, the failing rank's last lines, the exit code."""

from __future__ import annotations

import typer

from scheduler.entrypoints.cli.common import Format, Session
from scheduler.entrypoints.cli.exits import ExitCode
from scheduler.entrypoints.cli.follow import code_of_end, exit_code_of_program, failure_lines
from scheduler.entrypoints.cli.output import show_one
from scheduler.entrypoints.cli.summary import summary_lines
from trimtab.client import Client
from trimtab.job import JobState
from trimtab.jobspec import JobKind
from trimtab.views import JobView


def finish(session: Session, client: Client, view: JobView, *, output: Format) -> None:
    """Print the end of a job; raises typer.Exit unless it succeeded."""
    if view.kind is JobKind.COMMAND and output.for_people:
        _finish_program(session, client, view)
    else:
        show_one(session.console, output, view, lines=lambda: summary_lines(view, style=session.console.style), name=str(view.id))
        if view.state is JobState.FAILED:
            for line in failure_lines(client, view):
                session.console.note(line)
    code = code_of_end(view)
    if code is not ExitCode.OK:
        raise typer.Exit(int(code))


def _finish_program(session: Session, client: Client, view: JobView) -> None:
    """The program's own output is what counts on stdout: how it ended goes to stderr."""
    if view.state is JobState.SUCCEEDED:
        session.note(f"{view.name} ({view.id}) succeeded")
        return
    code = exit_code_of_program(client, view)
    said = "" if code is None else f"; its exit code was {code}" if code >= 0 else f"; it was killed by signal {-code}"
    session.console.error(f"{view.name} ({view.id}) {view.state}: {view.detail or view.reason}{said}")
