"""``trimtab estimate``: every strategy with its memory, time and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import (
    DeviceFileOption,
    FileArgument,
    Format,
    OutputOption,
    PlotOption,
    PriceFileOption,
    open_session,
)
from scheduler.entrypoints.cli.exits import CommandError, ExitCode
from scheduler.entrypoints.cli.output import Column, show_many
from scheduler.entrypoints.cli.planning import estimate_here, plan_here
from scheduler.entrypoints.cli.plots import PlotJob, check_plot, show_plot
from scheduler.entrypoints.cli.words import bytes_text, interval_text, seconds_text, usd_text
from trimtab.plan import Candidate

app = new_command()


@app.command()
def estimate(
    ctx: typer.Context,
    file: FileArgument,
    inventory: Annotated[
        Path | None, typer.Option("--inventory", metavar="FILE", help="Pools of this file instead of this machine.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most so many, the fastest first.")] = 20,
    device_file: DeviceFileOption = None,
    price_file: PriceFileOption = None,
    plot: PlotOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Predict memory, step time and cost of every strategy that a job could run with. No solver, no server."""
    check_plot(plot, output)
    session = open_session(ctx).with_files(devices=device_file, prices=price_file)
    answer = estimate_here(session.settings, file, inventory)
    spec, found = answer.spec, answer.candidates
    if not found:
        why = plan_here(session.settings, file, inventory).plan.unplaced[0]
        change = f"; smallest change: {why.smallest_change}" if why.smallest_change else ""
        raise CommandError(
            f"{file}: no strategy of {spec.name} is possible on these devices: {why.reason}: {why.detail}{change}",
            ExitCode.INFEASIBLE,
        )
    ordered = sorted(found, key=lambda candidate: (candidate.total_s.value, candidate.cost_usd.value))
    columns: list[Column[Candidate]] = [
        Column(header="OFFER", cell=lambda c: str(c.offer_id)),
        Column(header="DEVICES", cell=lambda c: f"{c.shape.num_nodes}×{c.shape.devices_per_node}"),
        Column(header="STRATEGY", cell=lambda c: c.strategy.label() if c.strategy else "-"),
        Column(header="MEMORY", cell=_memory, right=True),
        Column(header="FIT", cell=lambda c: str(c.fit)),
        Column(header="STEP", cell=lambda c: interval_text(c.step_s, "seconds"), right=True),
        Column(header="WHOLE RUN", cell=lambda c: interval_text(c.total_s, "seconds"), right=True),
        Column(header="COST", cell=lambda c: interval_text(c.cost_usd, "usd"), right=True),
        Column(
            header="BESIDE STEPS", cell=lambda c: seconds_text(sum(part.seconds for part in c.run_parts)), wide=True, right=True
        ),
        Column(header="RESTS ON", cell=lambda c: str(c.step_s.origin), wide=True),
        Column(header="WHOLE RUN RESTS ON", cell=lambda c: c.total_s.source, wide=True),
        Column(header="PRICE", cell=lambda c: f"{usd_text(c.price_usd_per_hour)}/h", wide=True, right=True),
    ]
    show_many(
        session.console,
        output,
        ordered[:limit],
        columns=columns,
        name=lambda c: c.strategy.label() if c.strategy else str(c.offer_id),
        empty="",
    )
    if output.for_people:
        for note in answer.notes:
            session.note(note)
    if len(ordered) > limit and output.for_people:
        session.note(f"{len(ordered) - limit} slower ones left out; --limit {len(ordered)} shows all")
    if plot is not None:
        job = PlotJob(spec=spec, inventory=answer.inventory, candidates=found, marked=None, mark="")
        show_plot(session, plot, job)


def _memory(candidate: Candidate) -> str:
    return bytes_text(max((rank.total_bytes.value for rank in candidate.memory), default=0.0)) if candidate.memory else "-"
