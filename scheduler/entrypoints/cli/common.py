"""What every command starts with: settings, console, formats, the client, and reading of arguments."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from scheduler.config import Settings, read_settings
from scheduler.entrypoints.cli.console import Console
from scheduler.entrypoints.cli.exits import CommandError, ExitCode
from trimtab.errors import UnavailableError

if TYPE_CHECKING:
    from trimtab.client import Client

T = TypeVar("T")


class Format(StrEnum):
    """Forms of output."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"
    NAME = "name"

    @property
    def for_people(self) -> bool:
        """Is it read by a person?"""
        return self in (Format.TABLE, Format.WIDE)


OutputOption = Annotated[Format, typer.Option("-o", "--output", help="Form of the result on stdout.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id, unique beginning of one, or name of a job.")]
JobsArgument = Annotated[list[str], typer.Argument(metavar="JOB...", help="Ids, unique beginnings of them, or names.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A job file (YAML or JSON).")]
DeviceFileOption = Annotated[
    Path | None,
    typer.Option(
        "--device-file",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Your own device types, instead of TRIMTAB_DEVICES or devices.yaml.",
    ),
]
PriceFileOption = Annotated[
    Path | None,
    typer.Option(
        "--price-file",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Your own prices, instead of TRIMTAB_PRICES or prices.yaml.",
    ),
]
PlotOption = Annotated[
    str | None,
    typer.Option(
        "--plot", metavar="FILE", help="Draw time against cost, and memory: FILE.svg or FILE.png; - draws in the terminal."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One command line at work."""

    console: Console
    settings: Settings
    quiet: bool

    def note(self, text: str) -> None:
        """Something to know, unless ``--quiet``."""
        if not self.quiet:
            self.console.note(text)

    def with_files(self, *, devices: Path | None, prices: Path | None) -> Session:
        """The same session with these files of own device types and prices, where they are named."""
        settings = replace(self.settings, devices=devices or self.settings.devices, prices=prices or self.settings.prices)
        return replace(self, settings=settings)

    def connect(self) -> Client:
        """The control process of this home, started if it is not there; or the one that TRIMTAB_SERVER names."""
        from scheduler.entrypoints.control.launch import ensure

        if self.settings.server is not None:
            return self._of_others()
        started = ensure(self.settings.home)
        if started.fresh:
            self.note(f"started the control process of {self.settings.home.path} (trimtab server stop ends it)")
        return started.client

    def running(self) -> Client | None:
        """The control process if one answers; nothing is started."""
        from scheduler.entrypoints.control.launch import answers, client_of

        if self.settings.server is not None:
            return self._of_others()
        client = client_of(self.settings.home)
        return client if self.settings.home.socket.exists() and answers(client) else None

    def _of_others(self) -> Client:
        """A client of the control process that TRIMTAB_SERVER names. Raises UnavailableError where none answers."""
        from trimtab.client import Client

        client = Client(f"unix:{self.settings.server}")
        client.status()
        return client

    def again(self, call: Callable[[Client], T], client: Client) -> T:
        """A call that outlives the control process: if it is gone, it is started and asked once more."""
        try:
            return call(client)
        except UnavailableError:
            return call(self.connect())


def open_session(ctx: typer.Context) -> Session:
    """The session of a command; checks the installation first (cached)."""
    from scheduler.entrypoints.installation import check_installation

    root = ctx.find_root().obj or {}
    settings = read_settings(os.environ)
    check_installation(settings.home.path)
    return Session(console=Console(colour=root.get("colour", True)), settings=settings, quiet=root.get("quiet", False))


def usage(message: str) -> CommandError:
    """An error in the way a command was called."""
    return CommandError(message, ExitCode.USAGE)
