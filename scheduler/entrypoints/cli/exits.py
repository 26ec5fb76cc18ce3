"""Exit codes of the command line, and which error gives which."""

from __future__ import annotations

from enum import IntEnum

from trimtab.errors import (
    AuthenticationError,
    ConflictError,
    InfeasibleError,
    NotFoundError,
    SpecError,
    TrimtabError,
)


class ExitCode(IntEnum):
    """What a caller can branch on; documented in ``docs/cli.md`` and never changed."""

    OK = 0
    ERROR = 1
    USAGE = 2
    INFEASIBLE = 3
    NOT_FOUND = 4
    AUTHENTICATION = 5
    CONFLICT = 6
    JOB_FAILED = 7
    TIMED_OUT = 8
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command with a message for stderr (may be empty) and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.ERROR) -> None:
        self.code = code
        super().__init__(message)


def code_of(error: TrimtabError) -> ExitCode:
    """The exit code of an expected error."""
    if isinstance(error, InfeasibleError):
        return ExitCode.INFEASIBLE
    if isinstance(error, NotFoundError):
        return ExitCode.NOT_FOUND
    if isinstance(error, AuthenticationError):
        return ExitCode.AUTHENTICATION
    if isinstance(error, ConflictError):
        return ExitCode.CONFLICT
    if isinstance(error, SpecError):
        return ExitCode.USAGE
    return ExitCode.ERROR
