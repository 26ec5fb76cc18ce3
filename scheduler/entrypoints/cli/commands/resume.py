"""``trimtab resume``."""

from __future__ import annotations

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import Format, JobsArgument, OutputOption, open_session
from scheduler.entrypoints.cli.wishes import wish

app = new_command()


@app.command()
def resume(ctx: typer.Context, jobs: JobsArgument, output: OutputOption = Format.TABLE) -> None:
    """Put suspended jobs back into the queue; they go on from their last checkpoint."""
    wish(open_session(ctx), jobs, lambda client, job: client.resume(job), output=output)
