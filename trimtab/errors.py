"""Every exception that Trimtab raises on purpose.

    TrimtabError
    ├── SpecError            a document given by a person is wrong (job file, inventory, model config)
    ├── InfeasibleError      no candidate satisfies the request; carries the reasons
    ├── SolverError          the optimisation model could not be solved or its answer was refused
    ├── StoreError           the state store could not answer
    │   └── UnknownOutcome   a write may or may not have taken effect; repeat it with the same op id
    ├── ConflictError        the request lost against a newer state (stale plan, name in use)
    ├── FencedError          the attempt is not the current one; it may change nothing any more
    ├── NotFoundError        no such job, plan or document
    ├── AuthenticationError  the caller is not known, or may not do this
    ├── UnavailableError     the control process cannot be reached
    ├── CheckpointError      a checkpoint is missing, torn or fails verification
    ├── ExecutorError        a command to the devices' side failed
    └── InstallationError    the installed packages do not form one working distribution

Expected outcomes are values, bugs are assertions; these are for what a caller or a person has to decide on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a document.

    ``path`` is the dotted path of the field (``workload.global_batch``); ``line`` and ``column`` start at 1 and are
    None where the document had no text (a REST body). ``allowed`` says what is allowed, ``nearest`` the closest valid choice.
    """

    path: str
    message: str
    line: int | None = None
    column: int | None = None
    allowed: str | None = None
    nearest: str | None = None

    def render(self, source: str | None = None) -> str:
        """One line for a person: ``job.yaml:7:3: workload.step: unknown key; allowed: ...; did you mean 'steps'?``"""
        where = source or ""
        if self.line is not None:
            where += f":{self.line}:{self.column or 1}"
        parts = [f"{self.path}: {self.message}" if self.path else self.message]
        if self.allowed:
            parts.append(f"allowed: {self.allowed}")
        if self.nearest:
            parts.append(f"did you mean {self.nearest}?")
        text = "; ".join(parts)
        return f"{where}: {text}" if where else text


class TrimtabError(Exception):
    """Root of the tree above. ``str(error)`` is one sentence for a person."""


class SpecError(TrimtabError):
    """A document is wrong. All problems found are listed, not only the first."""

    def __init__(self, problems: Sequence[Problem], *, source: str | None = None) -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__("\n".join(problem.render(source) for problem in self.problems))


class InfeasibleError(TrimtabError):
    """Nothing satisfies the request. ``reasons`` holds one sentence per reason, the most binding first."""

    def __init__(self, message: str, *, reasons: Sequence[str] = ()) -> None:
        self.reasons = tuple(reasons)
        super().__init__(message)


class SolverError(TrimtabError):
    """The solver failed, died, timed out without an answer, or its answer was refused by the checker."""


class StoreError(TrimtabError):
    """The state store could not answer."""


class UnknownOutcome(StoreError):
    """A write may or may not have taken effect. Repeat it with the same op id: the store answers as the first time."""


class ConflictError(TrimtabError):
    """The request lost against a newer state."""


class FencedError(TrimtabError):
    """The attempt is not the current one of its unit."""


class NotFoundError(TrimtabError):
    """No such job, plan or document."""


class AuthenticationError(TrimtabError):
    """The caller is not known, or may not do this."""


class UnavailableError(TrimtabError):
    """The control process cannot be reached."""


class CheckpointError(TrimtabError):
    """A checkpoint is missing, torn or fails verification."""


class ExecutorError(TrimtabError):
    """A command to the devices' side failed."""


class InstallationError(TrimtabError):
    """The installed packages do not form one working distribution."""
