"""``trimtab cancel``."""

from __future__ import annotations

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import Format, JobsArgument, OutputOption, open_session
from scheduler.entrypoints.cli.wishes import wish

app = new_command()


@app.command()
def cancel(ctx: typer.Context, jobs: JobsArgument, output: OutputOption = Format.TABLE) -> None:
    """Stop jobs for good. A running one gets its grace to write a checkpoint; a queued one ends at once."""
    wish(open_session(ctx), jobs, lambda client, job: client.cancel(job), output=output)
