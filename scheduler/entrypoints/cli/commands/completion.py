"""``trimtab completion``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from scheduler.entrypoints.cli.app import new_command

app = new_command()


class Shell(StrEnum):
    """Shells."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.")]) -> None:
    """Print the completion script of a shell: eval "$(trimtab completion bash)" in its start file."""
    typer.echo(get_completion_script(prog_name="trimtab", complete_var="_TRIMTAB_COMPLETE", shell=shell.value))
