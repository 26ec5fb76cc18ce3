"""``trimtab``: runs a command, and turns every ending into words on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from scheduler.entrypoints.cli.app import root
from scheduler.entrypoints.cli.exits import CommandError, ExitCode, code_of
from trimtab.errors import InfeasibleError, TrimtabError


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script; always ends in SystemExit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    command = typer.main.get_command(root)
    own, program = split_program(list(arguments))
    try:
        code = command.main(args=own, prog_name="trimtab", standalone_mode=True, obj={"program": program})
        return int(code or 0)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except CommandError as error:
        _say(str(error))
        return int(error.code)
    except TrimtabError as error:
        _say(_words(error))
        return int(code_of(error))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our pipe went away (``trimtab list | head``): nothing is wrong, and nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)


def split_program(arguments: list[str]) -> tuple[list[str], list[str] | None]:
    """What stands behind ``--`` of ``trimtab run`` is a program's, whatever its options look like; None without ``--``."""
    if "--" not in arguments:
        return arguments, None
    cut = arguments.index("--")
    if "run" not in arguments[:cut]:
        return arguments, None
    return arguments[:cut], arguments[cut + 1 :]


def _words(error: TrimtabError) -> str:
    if isinstance(error, InfeasibleError) and error.reasons:
        return "\n".join([str(error), *(f"  - {reason}" for reason in error.reasons if reason != str(error))])
    return str(error) or type(error).__name__


def _say(text: str) -> None:
    if not text:
        return
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    label = "\x1b[31;1merror:\x1b[0m" if coloured else "error:"
    print(f"{label} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
