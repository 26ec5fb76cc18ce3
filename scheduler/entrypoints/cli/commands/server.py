"""``trimtab server``: the background control process."""

from __future__ import annotations

from typing import Annotated

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.columns import table
from scheduler.entrypoints.cli.common import Format, OutputOption, Session, open_session
from scheduler.entrypoints.cli.exits import CommandError, ExitCode
from scheduler.entrypoints.cli.output import show_one
from scheduler.entrypoints.cli.words import age_text, moment_text, plural, seconds_text
from trimtab.views import ServerStatus

app = new_command(
    "The background control process of this user: it holds the queue, starts and watches jobs, and serves the REST API on a unix "
    "socket in the state folder (TRIMTAB_HOME). Commands that need it start it by themselves."
)


@app.command("start")
def start(
    ctx: typer.Context,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay here and log to stderr, for service managers.")] = False,
) -> None:
    """Start it, unless it runs."""
    session = _own(ctx)
    if foreground:
        from scheduler.entrypoints.control.main import main

        raise typer.Exit(main(["--home", str(session.settings.home.path)]))
    from scheduler.entrypoints.control.launch import ensure

    started = ensure(session.settings.home)
    status = started.client.status()
    word = "started" if started.fresh else "already runs"
    session.console.result(f"control process {status.pid} {word}: {session.settings.home.path}")


@app.command("stop")
def stop(ctx: typer.Context) -> None:
    """End it. Running jobs go on undisturbed, and the next start finds them again."""
    from scheduler.entrypoints.control.launch import stop as stop_control

    session = _own(ctx)
    client = session.running()
    live = _live_jobs(client.status()) if client is not None else 0
    identity = stop_control(session.settings.home)
    if identity is None:
        session.console.result(f"no control process runs for {session.settings.home.path}")
        return
    session.console.result(f"control process {identity.process.pid} ended")
    if live:
        session.note(f"{plural(live, 'job')} with live attempts: they go on; trimtab server start finds them again")


@app.command("status")
def status(ctx: typer.Context, output: OutputOption = Format.TABLE) -> None:
    """Show it: process, store, jobs, devices. Exit code 1 when it does not run."""
    session = open_session(ctx)
    client = session.running()
    if client is None:
        raise CommandError(f"no control process runs for {session.settings.home.path}; trimtab server start", ExitCode.ERROR)
    found = client.status()
    show_one(session.console, output, found, lines=lambda: _lines(session, found), name=str(found.pid))


def _own(ctx: typer.Context) -> Session:
    """The session, where the control process is the user's own."""
    session = open_session(ctx)
    if session.settings.server is not None:
        raise CommandError(f"TRIMTAB_SERVER names the control process at {session.settings.server}: only its owner does this")
    return session


def _live_jobs(found: ServerStatus) -> int:
    return sum(found.num_jobs.get(state, 0) for state in ("STARTING", "RUNNING", "STOPPING", "UNKNOWN"))


def _lines(session: Session, found: ServerStatus) -> list[str]:
    from datetime import UTC, datetime

    age = age_text((datetime.now(UTC) - found.started_at).total_seconds())
    jobs = ", ".join(f"{count} {state}" for state, count in found.num_jobs.items() if count) or "none"
    rows = [
        ["process", f"{found.pid}, version {found.version}, since {moment_text(found.started_at)} ({age})"],
        ["address", f"unix:{session.settings.server or session.settings.home.socket}"],
        ["home", found.home],
        ["store", f"{found.store}, {plural(found.last_event, 'event')}, leader's term {found.term}"],
        ["jobs", jobs],
        ["devices", f"{found.num_free_devices} free of {found.num_devices}"],
        ["loop", f"last round took {seconds_text(found.last_cycle_s)}"],
    ]
    rows += [["warning", warning] for warning in found.warnings]
    return table(rows)
