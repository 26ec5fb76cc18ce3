"""``trimtab compare``: two plans side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import DeviceFileOption, Format, OutputOption, PriceFileOption, Session, open_session, usage
from scheduler.entrypoints.cli.exits import CommandError, ExitCode
from scheduler.entrypoints.cli.output import show_one
from scheduler.entrypoints.cli.planning import PlanAnswer, basis_here, plan_spec_here
from scheduler.entrypoints.cli.planprint import unit_of
from scheduler.entrypoints.cli.planprint.sidebyside import comparison_lines
from scheduler.entrypoints.cli.savedplan import SavedPlan, read_saved
from scheduler.entrypoints.cli.words import moment_text
from scheduler.entrypoints.documents import load_job
from scheduler.service.comparison import PlanSide
from scheduler.service.comparison import compare as compared
from trimtab.plan import Plan

app = new_command()


@app.command()
def compare(
    ctx: typer.Context,
    a: Annotated[Path, typer.Argument(metavar="A", help="A job file (planned now) or a file of trimtab plan -o json.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The other one.")],
    inventory: Annotated[
        Path | None, typer.Option("--inventory", metavar="FILE", help="Plan job files for the pools of this file.")
    ] = None,
    device_file: DeviceFileOption = None,
    price_file: PriceFileOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Hold two plans against each other: devices, strategy, step time, memory, cost, with differences. Nothing is started.

    Each of A and B is a job file or a saved plan. Where the 80 % intervals overlap, the difference may be the prediction's own
    error. No server is asked. Exit code 3: a side has no plan.
    """
    session = open_session(ctx).with_files(devices=device_file, prices=price_file)
    found = compared(*_sides(session, (a, b), inventory))
    console = session.console
    show_one(
        console,
        output,
        found,
        lines=lambda: comparison_lines(found, width=console.width, style=console.style),
        name=f"{found.name_a}\n{found.name_b}",
    )


def _sides(session: Session, paths: tuple[Path, Path], inventory_file: Path | None) -> tuple[PlanSide, PlanSide]:
    """Both sides; the job files among them are planned for the same moment and pools."""
    saved = [read_saved(path) for path in paths]
    specs = [load_job(path) if found is None else None for path, found in zip(paths, saved, strict=True)]
    basis = basis_here(session.settings, inventory_file) if any(specs) else None
    sides = []
    for path, found, spec in zip(paths, saved, specs, strict=True):
        if found is not None:
            sides.append(_saved_side(path, found))
        else:
            assert spec is not None
            assert basis is not None
            sides.append(_planned_side(path, plan_spec_here(session.settings, spec, basis)))
    return sides[0], sides[1]


def _saved_side(path: Path, found: SavedPlan) -> PlanSide:
    try:
        unit = found.unit_id if found.unit_id is not None else unit_of(found.plan)
    except ValueError as error:
        raise usage(f"{path}: {error}; name a plan of one job") from error
    assignment = found.plan.assignment(unit)
    if assignment is None:
        raise _nothing(path, found.plan)
    name = f"{path} (plan of {moment_text(found.plan.made_at)})"
    return PlanSide(name=name, candidate=assignment.candidate, spec=found.spec, inventory=found.inventory)


def _planned_side(path: Path, answer: PlanAnswer) -> PlanSide:
    assignment = answer.plan.assignment(answer.unit_id)
    if assignment is None:
        raise _nothing(path, answer.plan)
    return PlanSide(name=f"{path} (planned now)", candidate=assignment.candidate, spec=answer.spec, inventory=answer.inventory)


def _nothing(path: Path, plan: Plan) -> CommandError:
    """A side without devices: there is nothing to hold against the other."""
    why = plan.unplaced[0] if plan.unplaced else None
    said = f": {why.reason}: {why.detail}" if why else ""
    change = f"; smallest change: {why.smallest_change}" if why and why.smallest_change else ""
    return CommandError(f"{path}: the plan gives the job no devices{said}{change}", ExitCode.INFEASIBLE)
