"""``trimtab run``: a job file or any program, from the plan to its end."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import Format, OutputOption, Session, open_session, usage
from scheduler.entrypoints.cli.ending import finish
from scheduler.entrypoints.cli.exits import ExitCode
from scheduler.entrypoints.cli.follow import Follower, detach_lines
from scheduler.entrypoints.cli.jobtext import queue_line
from scheduler.entrypoints.cli.output import show_one
from scheduler.entrypoints.cli.planning import PlanAnswer, plan_spec_with_server
from scheduler.entrypoints.cli.planprint import PlanPage, plan_lines
from scheduler.entrypoints.cli.probing import ensure_probe
from scheduler.entrypoints.cli.programs import program_spec
from scheduler.entrypoints.documents import load_job
from trimtab.client import Client
from trimtab.errors import ConflictError
from trimtab.jobspec import JobKind, JobSpec
from trimtab.views import JobView

app = new_command()

_SUBMIT_TRIES = 3


@app.command()
def run(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE | -- PROGRAM [ARGS]...]", help="A job file, or behind -- a program.", show_default=False),
    ] = None,
    devices: Annotated[int, typer.Option("--devices", min=1, help="Program only: how many devices; one rank each.")] = 1,
    device_type: Annotated[
        list[str] | None, typer.Option("--type", help="Program only: a device type that will do (any).")
    ] = None,
    ranks: Annotated[
        int | None, typer.Option("--ranks", min=1, help="Program only: processes per node; 1 for a launcher of its own.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Program only: name of the job (the script's).")] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="K=V", help="Program only: one more environment variable.")
    ] = None,
    max_retries: Annotated[
        int, typer.Option("--max-retries", min=0, help="Program only: start it again so often when it fails.")
    ] = 0,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Do not measure the devices first.")] = False,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Return when it is submitted.")] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Hold the control plane in this process: for scripts and CI.")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Plan, submit and follow a job file, or queue and follow any program in your own environment and folder.

    A job file: devices are measured the first time, the plan is printed, the job starts with it, and a summary ends it. A program
    (`trimtab run --devices 2 -- python train.py`) gets torchrun's variables and its devices; its output goes to stdout.
    Ctrl-C stops following, not the job. Exit code 7: it failed.
    """
    session = open_session(ctx)
    program: list[str] | None = ctx.find_root().obj.get("program")
    if (program is None) == (file is None):
        raise usage("a job file or a program is needed: trimtab run FILE, or trimtab run -- PROGRAM ARGS")
    if program is not None:
        spec = program_spec(
            program,
            name=name,
            devices=devices,
            types=device_type or [],
            ranks=ranks,
            variables=env or [],
            max_retries=max_retries,
        )
    else:
        assert file is not None, "checked above"
        spec = load_job(file)
    with _control(session, foreground=foreground) as client:
        if spec.kind is JobKind.TRAIN:
            view = _start_training(session, client, spec, probe=not no_probe, output=output)
        else:
            view = client.submit(spec, idempotency_key=_key())
            session.note(queue_line(view))
        if detach:
            show_one(session.console, output, view, lines=lambda: [queue_line(view)], name=str(view.id))
            return
        _follow(session, client, view, output=output)


@contextmanager
def _control(session: Session, *, foreground: bool) -> Iterator[Client]:
    """The control process, or the control plane in this process."""
    if not foreground:
        yield session.connect()
        return
    from importlib.metadata import version

    from scheduler.entrypoints.control.host import hosting
    from scheduler.entrypoints.control.launch import client_of

    with hosting(session.settings, version=version("trimtab")):
        yield client_of(session.settings.home)


def _start_training(session: Session, client: Client, spec: JobSpec, *, probe: bool, output: Format) -> JobView:
    """Measure, plan, print, submit with the plan. A plan that is overtaken meanwhile is made again."""
    if probe:
        ensure_probe(session, client)
    key = _key()
    for attempt in range(1, _SUBMIT_TRIES + 1):
        answer = plan_spec_with_server(client, spec)
        _print_plan(session, answer, output)
        if not answer.placed:
            session.note("\nno free devices now: the job waits in the queue (trimtab explain says why)")
        try:
            view = client.submit(spec, plan_id=str(answer.plan.id) if answer.placed else None, idempotency_key=key)
        except ConflictError as error:
            if attempt == _SUBMIT_TRIES:
                raise
            session.note(f"{error}; planning again")
            continue
        session.note("\n" + queue_line(view))
        return view
    raise AssertionError("the loop returns or raises")


def _print_plan(session: Session, answer: PlanAnswer, output: Format) -> None:
    console = session.console
    page = PlanPage(
        plan=answer.plan,
        unit_id=answer.unit_id,
        spec=answer.spec,
        inventory=answer.inventory,
        width=console.width,
        style=console.style if output.for_people else console.err_style,
    )
    if output.for_people:
        console.lines(plan_lines(page))
    else:
        session.note("\n".join(plan_lines(page)))


def _follow(session: Session, client: Client, view: JobView, *, output: Format) -> None:
    is_program = view.kind is JobKind.COMMAND
    follower = Follower(
        session=session,
        client=client,
        job_id=str(view.id),
        show_logs=is_program and output.for_people,
        quiet=session.quiet,
    )
    try:
        view = follower.follow()
    except KeyboardInterrupt:
        session.console.note("\n" + "\n".join(detach_lines(str(view.id), view.name)))
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    finish(session, follower.client, view, output=output)


def _key() -> str:
    """One per command: a submit that is sent twice makes one job."""
    return f"run-{secrets.token_hex(16)}"
