"""``trimtab export``: a plan as another trainer or launcher reads it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import scheduler.bootstrap as bootstrap
from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import Format, OutputOption, Session, open_session
from scheduler.entrypoints.cli.exporting import PlanSource, Target, choose, order
from scheduler.entrypoints.cli.output import show_one
from trimtab.files import write_atomically

if TYPE_CHECKING:
    from scheduler.bootstrap import Exported

app = new_command()

_PlanArgument = Annotated[
    str, typer.Argument(metavar="PLAN", help="A job file (planned now), a file of trimtab plan -o json, or a plan's id.")
]
_JobOption = Annotated[Path | None, typer.Option("--job", metavar="FILE", help="The job file that PLAN was made from.")]
_InventoryOption = Annotated[
    Path | None, typer.Option("--inventory", metavar="FILE", help="The pools that PLAN was made for, or is made for now.")
]
_OutOption = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write the files there instead of printing them.")]


@app.command()
def export(
    ctx: typer.Context,
    plan: _PlanArgument,
    to: Annotated[Target, typer.Option("--to", help="Whom it is written for.")],
    job: _JobOption = None,
    inventory: _InventoryOption = None,
    unit: Annotated[str | None, typer.Option("--unit", metavar="UNIT", help="Which unit of a plan of several.")] = None,
    out: _OutOption = None,
    main_address: Annotated[str, typer.Option("--main-address", metavar="HOST", help="Name of node 0.")] = "localhost",
    main_port: Annotated[int, typer.Option("--main-port", min=1, max=65535, help="Port on it.")] = 29500,
    script: Annotated[str, typer.Option("--script", metavar="FILE", help="Your program, where it is yours.")] = "train.py",
    output: OutputOption = Format.TABLE,
) -> None:
    """Write the strategy of a plan as configuration files and a start command for another trainer. Nothing is started.

    What the trainer cannot express is refused by name (exit code 2); what it does in its own way is said. No server is needed,
    but for a plan that is named by its id.
    """
    session = open_session(ctx)
    chosen = choose(session, PlanSource(plan=plan, job=job, inventory=inventory, unit=unit))
    made = bootstrap.export_here(order(chosen, to, main_address=main_address, main_port=main_port, script=script))
    if out is not None:
        _write(made, out)
    show_one(session.console, output, made, lines=lambda: _lines(made, out), name="\n".join(f.name for f in made.files))
    _say_notes(session, made)


def _write(made: Exported, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for file in made.files:
        write_atomically(out / file.name, file.text.encode(), mode=0o644)


def _lines(made: Exported, out: Path | None) -> Iterator[str]:
    if out is not None:
        yield from (str(out / file.name) for file in made.files)
        return
    for file in made.files:
        yield f"==> {file.name} <=="
        yield from file.text.rstrip("\n").splitlines()
        yield ""
    shown = range(made.num_nodes) if made.num_nodes <= 2 else (0, made.num_nodes - 1)
    for node in shown:
        yield f"node {node}:  {shlex.join(made.launch.on(node))}"


def _say_notes(session: Session, made: Exported) -> None:
    for note in made.notes:
        session.note(f"note: {note.dimension or 'run'}: {note.text}")
