"""A program of the user's as a job: their interpreter, folder and environment."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from scheduler.entrypoints.cli.common import usage
from trimtab.jobspec import CommandSpec, DeviceRequest, JobKind, JobSpec, RetryPolicy

_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_NAME_LENGTH = 63
# The shell's own notes on itself; Trimtab's settings are the control process's, not the program's.
_LEFT_OUT = frozenset({"_", "SHLVL", "OLDPWD", "PWD", "COLUMNS", "LINES"})
_LEFT_OUT_PREFIX = "TRIMTAB_"


def program_spec(
    argv: Sequence[str],
    *,
    name: str | None,
    devices: int,
    types: Sequence[str],
    ranks: int | None,
    variables: Sequence[str],
    max_retries: int,
) -> JobSpec:
    """The job of ``trimtab run -- argv``. Raises CommandError for a program that is not there."""
    if not argv:
        raise usage("a program is needed behind --: trimtab run -- python train.py")
    environment = {**user_environment(os.environ), **_extra(variables)}
    program = shutil.which(argv[0], path=environment.get("PATH"))
    if program is None:
        raise usage(f"{argv[0]}: no such program on the PATH")
    return JobSpec(
        name=_checked_name(name) if name is not None else name_of(argv),
        kind=JobKind.COMMAND,
        command=CommandSpec(
            argv=(os.path.abspath(program), *argv[1:]),
            working_dir=os.getcwd(),
            environment=environment,
            ranks_per_node=ranks,
        ),
        devices=DeviceRequest(min_devices=devices, max_devices=devices, types=tuple(types)),
        retry=RetryPolicy(max_failures=max_retries),
    )


def user_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of the shell's environment goes with the job: all but the shell's own notes and Trimtab's settings.

    It is kept in the store (readable by its owner alone) for as long as the job is, as a batch system does that exports the
    environment: a program without its variables is another program.
    """
    return {name: value for name, value in environment.items() if name not in _LEFT_OUT and not name.startswith(_LEFT_OUT_PREFIX)}


def name_of(argv: Sequence[str]) -> str:
    """A name for a command line: that of the script it runs, else of the program."""
    script = next((part for part in argv[1:] if not part.startswith("-") and Path(part).suffix in (".py", ".sh")), argv[0])
    name = _NOT_IN_NAME.sub("-", Path(script).stem).strip("-.") or "program"
    return name[:_NAME_LENGTH]


def _checked_name(name: str) -> str:
    if not name or len(name) > _NAME_LENGTH or _NOT_IN_NAME.search(name):
        raise usage(f"--name: found {name!r}; allowed: 1 to {_NAME_LENGTH} letters, digits, '_', '.' and '-'")
    return name


def _extra(variables: Sequence[str]) -> dict[str, str]:
    found = {}
    for variable in variables:
        name, separator, value = variable.partition("=")
        if not separator or not name:
            raise usage(f"--env: found {variable!r}; allowed: NAME=VALUE")
        found[name] = value
    return found
