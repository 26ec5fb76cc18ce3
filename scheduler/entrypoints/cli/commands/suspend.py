"""``trimtab suspend``."""

from __future__ import annotations

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import Format, JobsArgument, OutputOption, open_session
from scheduler.entrypoints.cli.wishes import wish

app = new_command()


@app.command()
def suspend(ctx: typer.Context, jobs: JobsArgument, output: OutputOption = Format.TABLE) -> None:
    """Checkpoint jobs, free their devices and keep them until trimtab resume."""
    wish(open_session(ctx), jobs, lambda client, job: client.suspend(job), output=output)
