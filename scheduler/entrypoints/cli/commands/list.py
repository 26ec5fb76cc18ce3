"""``trimtab list``: jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import Format, OutputOption, open_session
from scheduler.entrypoints.cli.jobtext import devices_text, progress_text, state_styles
from scheduler.entrypoints.cli.output import Column, show_many
from scheduler.entrypoints.cli.words import age_text, moment_text, seconds_text, usd_text
from trimtab.job import JOB_ENDS, JobState
from trimtab.views import JobView

app = new_command()


@app.command("list")
def list_jobs(
    ctx: typer.Context,
    state: Annotated[list[JobState] | None, typer.Option("--state", case_sensitive=False, help="Only these states.")] = None,
    active: Annotated[bool, typer.Option("--active", help="Only jobs that have not ended.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 50,
    output: OutputOption = Format.TABLE,
) -> None:
    """List jobs, newest first. Also: trimtab ps."""
    session = open_session(ctx)
    console = session.console
    wanted = list(state or [])
    if active:
        wanted += [s for s in JobState if s not in JOB_ENDS and s not in wanted]
    client = session.running()
    items = client.jobs(states=[str(s) for s in wanted], limit=limit) if client is not None else ()
    now = datetime.now(UTC)
    columns: list[Column[JobView]] = [
        Column(header="ID", cell=lambda v: str(v.id)),
        Column(header="NAME", cell=lambda v: v.name),
        Column(header="KIND", cell=lambda v: str(v.kind), wide=True),
        Column(header="STATE", cell=lambda v: str(v.state)),
        Column(header="REASON", cell=lambda v: v.reason if v.state not in (JobState.RUNNING, JobState.SUCCEEDED) else "-"),
        Column(header="DEVICES", cell=devices_text),
        Column(header="PROGRESS", cell=progress_text, right=True),
        Column(header="ETA", cell=lambda v: seconds_text(v.eta_s) if v.eta_s is not None else "-", right=True),
        Column(header="TRIES", cell=lambda v: str(len(v.attempts)), wide=True, right=True),
        Column(header="COST", cell=lambda v: usd_text(v.cost_usd), right=True),
        Column(header="AGE", cell=lambda v: age_text((now - v.submitted_at).total_seconds()), right=True),
        Column(header="BY", cell=lambda v: v.submitted_by, wide=True),
        Column(header="SUBMITTED", cell=lambda v: moment_text(v.submitted_at), wide=True),
        Column(header="OBSERVED", cell=lambda v: moment_text(v.observed_at) if v.observed_at else "-", wide=True),
    ]
    if client is None:
        session.note("no control process runs here; trimtab server start shows the jobs of earlier ones")
    show_many(console, output, items, columns=columns, name=lambda v: str(v.id), empty="no jobs", row_styles=state_styles)
