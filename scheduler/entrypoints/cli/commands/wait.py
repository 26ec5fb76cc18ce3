"""``trimtab wait``: to the end of a job."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import Format, JobArgument, OutputOption, open_session
from scheduler.entrypoints.cli.ending import finish
from scheduler.entrypoints.cli.exits import CommandError, ExitCode
from scheduler.entrypoints.cli.follow import Follower, detach_lines

app = new_command()


@app.command()
def wait(
    ctx: typer.Context,
    job: JobArgument,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Exit 8 after so long; the job goes on.")
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Follow a job to its end, then print its summary. Exit code 0: it succeeded; 7: it failed or was cancelled; 8: timed out.

    Ctrl-C stops following, not the job.
    """
    session = open_session(ctx)
    client = session.connect()
    view = client.job(job)
    deadline_s = None if timeout is None else time.monotonic() + timeout
    follower = Follower(session=session, client=client, job_id=str(view.id), deadline_s=deadline_s, quiet=session.quiet)
    try:
        view = follower.follow()
    except TimeoutError:
        raise CommandError(f"{view.name} ({view.id}) had not ended after {timeout:g} s; it goes on", ExitCode.TIMED_OUT) from None
    except KeyboardInterrupt:
        session.console.note("\n" + "\n".join(detach_lines(str(view.id), view.name)))
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    finish(session, follower.client, view, output=output)
