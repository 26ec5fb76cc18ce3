"""Errors as problem documents (RFC 9457) and back. The server and the client share this file, so they cannot disagree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trimtab.errors import (
    AuthenticationError,
    CheckpointError,
    ConflictError,
    ExecutorError,
    FencedError,
    InfeasibleError,
    InstallationError,
    NotFoundError,
    Problem,
    SolverError,
    SpecError,
    StoreError,
    TrimtabError,
    UnavailableError,
    UnknownOutcome,
)

TYPE_PREFIX = "urn:trimtab:problem:"

# The first matching row wins: subclasses stand before their bases.
_TABLE: tuple[tuple[type[TrimtabError], str, int, str], ...] = (
    (SpecError, "spec-invalid", 422, "The document is wrong"),
    (InfeasibleError, "infeasible", 422, "Nothing satisfies the request"),
    (NotFoundError, "not-found", 404, "Not found"),
    (FencedError, "fenced", 409, "The attempt is not the current one"),
    (ConflictError, "conflict", 409, "The request lost against a newer state"),
    (AuthenticationError, "not-allowed", 401, "Not allowed"),
    (UnknownOutcome, "unknown-outcome", 503, "The write may or may not have taken effect"),
    (StoreError, "store-unavailable", 503, "The state store could not answer"),
    (UnavailableError, "unavailable", 503, "Not available now"),
    (SolverError, "solver-error", 500, "The optimisation failed"),
    (ExecutorError, "executor-error", 502, "A command to the devices' side failed"),
    (CheckpointError, "checkpoint-error", 500, "A checkpoint cannot be used"),
    (InstallationError, "installation-error", 500, "The installation is not sound"),
    (TrimtabError, "error", 500, "Error"),
)


def problem_of_error(error: TrimtabError, *, request_id: str = "") -> dict[str, Any]:
    """The problem document of an expected error: type, title, status, detail, code, and ``errors[]`` where there are several."""
    code, status, title = next((code, status, title) for cls, code, status, title in _TABLE if isinstance(error, cls))
    body: dict[str, Any] = {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": str(error),
        "code": code,
    }
    if request_id:
        body["request_id"] = request_id
    if isinstance(error, SpecError):
        body["source"] = error.source
        body["errors"] = [_entry(problem) for problem in error.problems]
    if isinstance(error, InfeasibleError):
        body["reasons"] = list(error.reasons)
    return body


def error_of_problem(body: Mapping[str, Any], *, status: int) -> TrimtabError:
    """The error that a problem document tells of; an unknown code gives TrimtabError with its detail."""
    code = str(body.get("code") or str(body.get("type", "")).removeprefix(TYPE_PREFIX))
    detail = str(body.get("detail") or body.get("title") or f"the server answered {status}")
    if code == "spec-invalid":
        return SpecError([_problem(entry) for entry in body.get("errors") or ()], source=body.get("source"))
    if code == "infeasible":
        return InfeasibleError(detail, reasons=tuple(str(reason) for reason in body.get("reasons") or ()))
    if code == "too-large":
        return SpecError([Problem(path="", message=detail)])
    cls = next((cls for cls, known, _, _ in _TABLE if known == code), None)
    if cls is None:
        cls = {
            401: AuthenticationError,
            403: AuthenticationError,
            404: NotFoundError,
            409: ConflictError,
            503: UnavailableError,
        }.get(status, TrimtabError)
    return cls(detail)


def pointer(path: str) -> str:
    """A dotted path as a JSON Pointer (RFC 6901): ``pools[0].name`` gives ``/pools/0/name``."""
    parts = [part for part in re.split(r"\.|\[(\d+)\]", path) if part]
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def _entry(problem: Problem) -> dict[str, Any]:
    return {
        "pointer": pointer(problem.path),
        "path": problem.path,
        "detail": problem.message,
        "line": problem.line,
        "column": problem.column,
        "allowed": problem.allowed,
        "nearest": problem.nearest,
    }


def _problem(entry: Mapping[str, Any]) -> Problem:
    return Problem(
        path=str(entry.get("path", "")),
        message=str(entry.get("detail", "")),
        line=entry.get("line"),
        column=entry.get("column"),
        allowed=entry.get("allowed"),
        nearest=entry.get("nearest"),
    )
