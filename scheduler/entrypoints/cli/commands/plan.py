"""``trimtab plan``: choose devices and strategy, and say why."""

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
    PriceFileOption,
    Session,
    open_session,
)
from scheduler.entrypoints.cli.exits import ExitCode
from scheduler.entrypoints.cli.output import show_one
from scheduler.entrypoints.cli.planning import PlanAnswer, plan_here, plan_with_server
from scheduler.entrypoints.cli.planprint import PlanPage, plan_lines

app = new_command()

_InventoryOption = Annotated[
    Path | None,
    typer.Option(
        "--inventory", metavar="FILE", help="Plan for the pools of this file instead of this machine; no server is asked."
    ),
]


@app.command()
def plan(
    ctx: typer.Context,
    file: FileArgument,
    inventory: _InventoryOption = None,
    top: Annotated[int, typer.Option("--top", min=1, max=5, help="Candidates side by side.")] = 3,
    device_file: DeviceFileOption = None,
    price_file: PriceFileOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Choose devices and strategy for a job and print the plan with its reasons. Nothing is started.

    With a file of pools, devices or prices, or while no control process runs, the plan is made in this process. Else the control
    process makes it beside what runs now and keeps it, so that `trimtab submit FILE --plan PLAN` can start exactly this plan.
    Exit code 3: nothing fits.
    """
    session = open_session(ctx).with_files(devices=device_file, prices=price_file)
    here = inventory is not None or device_file is not None or price_file is not None
    client = None if here else session.running()
    answer = plan_with_server(client, file) if client is not None else plan_here(session.settings, file, inventory)
    show_plan(session, answer, form=output, num_choices=top)
    if client is not None and answer.placed:
        session.note(f"\nstart exactly this plan:  trimtab submit {file} --plan {answer.plan.id}")
    if not answer.placed:
        raise typer.Exit(int(ExitCode.INFEASIBLE))


def show_plan(session: Session, answer: PlanAnswer, *, form: Format, num_choices: int) -> None:
    """A plan in the asked form."""
    console = session.console
    page = PlanPage(
        plan=answer.plan,
        unit_id=answer.unit_id,
        spec=answer.spec,
        inventory=answer.inventory,
        num_choices=num_choices,
        width=console.width,
        style=console.style,
    )
    show_one(console, form, answer.plan, lines=lambda: plan_lines(page), name=str(answer.plan.id))
