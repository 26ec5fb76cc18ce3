"""The command tree. Names and one-line helps stand here, so that ``trimtab --help`` loads no command."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One command: its name, section of the help, one line, and other names that it answers to."""

    name: str
    section: str
    help: str
    aliases: tuple[str, ...] = ()


_PLAN, _RUN, _LOOK, _SERVER = "Plan (no server needed)", "Run", "Look", "This installation"

ENTRIES: tuple[Entry, ...] = (
    Entry(name="check", section=_PLAN, help="What works on this machine: devices, torch, solver, prices, probe, server."),
    Entry(name="probe", section=_PLAN, help="Measure this machine's devices; plans then rest on measurements."),
    Entry(name="calibrate", section=_PLAN, help="Correct predictions by measured steps of real runs; show what they change."),
    Entry(name="trace", section=_PLAN, help="Measure a model of your own: run its module on tensors without data."),
    Entry(name="estimate", section=_PLAN, help="Memory, step time and cost of every strategy of a job."),
    Entry(name="plan", section=_PLAN, help="Choose devices and strategy for a job, print why; start nothing."),
    Entry(name="advise", section=_PLAN, help="Micro-batches that fit, the global batch worth taking, time and cost of both."),
    Entry(name="export", section=_PLAN, help="A plan as torchrun, torchtitan, Megatron, DeepSpeed, Accelerate, MaxText read it."),
    Entry(name="compare", section=_PLAN, help="Two plans side by side: strategy, time, memory, cost, and what is certain."),
    Entry(name="run", section=_RUN, help="Plan, submit and follow a job file, or any program: run -- python train.py"),
    Entry(name="submit", section=_RUN, help="Put a job into the queue and return."),
    Entry(name="cancel", section=_RUN, help="Stop jobs for good."),
    Entry(name="suspend", section=_RUN, help="Checkpoint jobs, free their devices, keep them for later."),
    Entry(name="resume", section=_RUN, help="Put suspended jobs back into the queue."),
    Entry(name="wait", section=_RUN, help="Follow a job to its end; the exit code tells how it ended."),
    Entry(name="list", section=_LOOK, help="Jobs, newest first.", aliases=("ps", "ls")),
    Entry(name="get", section=_LOOK, help="Everything about one job."),
    Entry(name="explain", section=_LOOK, help="Why a job is where it is, and what would change that."),
    Entry(name="logs", section=_LOOK, help="What a job's ranks printed; -f follows it through restarts."),
    Entry(name="events", section=_LOOK, help="What happened, in order."),
    Entry(name="server", section=_SERVER, help="Start, stop and look at the background control process."),
    Entry(name="completion", section=_SERVER, help="Print the completion script of a shell."),
    Entry(name="version", section=_SERVER, help="Versions of Trimtab and of what it uses."),
)

_BY_NAME = {name: entry for entry in ENTRIES for name in (entry.name, *entry.aliases)}

HELP = "Plans, runs and watches training jobs on the devices that you have."
EPILOG = "Start here:  trimtab check   then   trimtab run examples/stdlib-lm/job.yaml"


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they are called, and whose help comes from the table above."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Names in the order of the help."""
        return [entry.name for entry in ENTRIES]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """The command, imported now; an unknown name ends in a usage error with the nearest names."""
        entry = _BY_NAME.get(cmd_name)
        if entry is None:
            near = difflib.get_close_matches(cmd_name, list(_BY_NAME), n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"No such command '{cmd_name}'.{hint}")
        module = importlib.import_module(f"scheduler.entrypoints.cli.commands.{entry.name}")
        command = typer.main.get_command(module.app)
        command.name = entry.name
        return command

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Sections of the table."""
        width = max(len(entry.name) for entry in ENTRIES)
        for section in dict.fromkeys(entry.section for entry in ENTRIES):
            with formatter.section(section):
                formatter.write_dl([(e.name.ljust(width), e.help) for e in ENTRIES if e.section == section])


def new_command(help_text: str = "") -> typer.Typer:
    """The Typer app of one command module; plain help, no completion options, errors as everywhere."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help=help_text or None,
        context_settings=CONTEXT,
    )


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

root = typer.Typer(
    name="trimtab",
    cls=LazyGroup,
    help=HELP,
    epilog=EPILOG,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings=CONTEXT,
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"trimtab {version('trimtab')}")
        raise typer.Exit


@root.callback()
def options(
    ctx: typer.Context,
    no_color: bool = typer.Option(False, "--no-color", help="Plain text also on a terminal (as the variable NO_COLOR)."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Only results and errors."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Plans, runs and watches training jobs on the devices that you have."""
    ctx.obj = {**(ctx.obj or {}), "colour": not no_color, "quiet": quiet}
