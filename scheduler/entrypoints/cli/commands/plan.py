"""``trimtab plan``: choose devices and strategy, and say why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import scheduler.bootstrap as bootstrap
from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import (
    DeviceFileOption,
    FileArgument,
    Format,
    OutputOption,
    PlotOption,
    PriceFileOption,
    Session,
    open_session,
)
from scheduler.entrypoints.cli.exits import ExitCode
from scheduler.entrypoints.cli.output import show_data
from scheduler.entrypoints.cli.planning import PlanAnswer, basis_here, plan_spec_here, plan_with_server
from scheduler.entrypoints.cli.planprint import PlanPage, plan_lines
from scheduler.entrypoints.cli.planprint.whatif import WhatIfRow, whatif_lines
from scheduler.entrypoints.cli.plots import PlotJob, check_plot, show_plot
from scheduler.entrypoints.cli.savedplan import plan_data
from scheduler.entrypoints.cli.whatifs import WhatIf, ask, parse_questions
from scheduler.entrypoints.documents import load_job

app = new_command()

_InventoryOption = Annotated[
    Path | None,
    typer.Option(
        "--inventory", metavar="FILE", help="Plan for the pools of this file instead of this machine; no server is asked."
    ),
]
_WhatIfOption = Annotated[
    list[str] | None,
    typer.Option(
        "--what-if", metavar="CHANGE", help="Plan a changed world too: devices+8, price*0.7, type=NAME, nodes+1,network*2 ..."
    ),
]


@app.command()
def plan(
    ctx: typer.Context,
    file: FileArgument,
    inventory: _InventoryOption = None,
    top: Annotated[int, typer.Option("--top", min=1, max=5, help="Candidates side by side.")] = 3,
    what_if: _WhatIfOption = None,
    plot: PlotOption = None,
    device_file: DeviceFileOption = None,
    price_file: PriceFileOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Choose devices and strategy for a job and print the plan with its reasons. Nothing is started.

    With a file of pools, devices or prices, a what-if or a plot, or while no control process runs, the plan is made in this
    process. Else the control process makes it beside what runs now and keeps it, so that `trimtab submit FILE --plan PLAN` can
    start exactly this plan. Exit code 3: nothing fits.
    """
    session = open_session(ctx).with_files(devices=device_file, prices=price_file)
    questions = parse_questions(what_if or ())
    check_plot(plot, output)
    here = any(option is not None for option in (inventory, device_file, price_file, plot)) or bool(questions)
    client = None if here else session.running()
    if client is not None:
        answer = plan_with_server(client, file)
        show_plan(session, answer, form=output, num_choices=top)
    else:
        spec, basis = load_job(file), basis_here(session.settings, inventory)
        answer = plan_spec_here(session.settings, spec, basis)
        others = ask(session.settings, answer, questions, basis=basis)
        show_plan(session, answer, form=output, num_choices=top, others=others)
        if plot is not None:
            candidates = bootstrap.estimate_here(spec, basis.inventory, basis.probes, measurements=basis.measurements)
            assignment = answer.plan.assignment(answer.unit_id)
            chosen = assignment.candidate if assignment else None
            job = PlotJob(spec=spec, inventory=basis.inventory, candidates=candidates, marked=chosen, mark="chosen")
            show_plot(session, plot, job)
    if client is not None and answer.placed:
        session.note(f"\nstart exactly this plan:  trimtab submit {file} --plan {answer.plan.id}")
    if not answer.placed:
        raise typer.Exit(int(ExitCode.INFEASIBLE))


def show_plan(session: Session, answer: PlanAnswer, *, form: Format, num_choices: int, others: tuple[WhatIf, ...] = ()) -> None:
    """A plan in the asked form, with the plans of changed worlds."""
    console = session.console
    if form is Format.NAME:
        console.result(str(answer.plan.id))
    elif form.for_people:
        page = PlanPage(
            plan=answer.plan,
            unit_id=answer.unit_id,
            spec=answer.spec,
            inventory=answer.inventory,
            num_choices=num_choices,
            width=console.width,
            style=console.style,
        )
        lines = plan_lines(page)
        if others:
            rows = [_row("as it is", answer), *(_row(other.question, other.answer) for other in others)]
            lines += ["", *whatif_lines(rows, wide=form is Format.WIDE, width=console.width, style=console.style)]
        console.lines(lines)
    else:
        asked = [{"change": other.question, **plan_data(other.answer)} for other in others]
        show_data(console, form, plan_data(answer) | ({"what_if": asked} if others else {}))


def _row(name: str, answer: PlanAnswer) -> WhatIfRow:
    assignment = answer.plan.assignment(answer.unit_id)
    unplaced = next((found for found in answer.plan.unplaced if found.unit_id == answer.unit_id), None)
    return WhatIfRow(name=name, candidate=assignment.candidate if assignment else None, unplaced=unplaced)
