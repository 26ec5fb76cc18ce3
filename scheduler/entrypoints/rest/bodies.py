"""Bodies of requests and envelopes of lists. Domain values travel in the wire form of ``trimtab.wire``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from trimtab.errors import Problem, SpecError
from trimtab.inventory import ProbeReport
from trimtab.jobspec import JobSpec
from trimtab.plan import Plan
from trimtab.spec import parse_job
from trimtab.views import EventView, JobView
from trimtab.wire import encode


class SpecBody(BaseModel):
    """A job: either parsed (``spec``) or as a document with the keys of a job file (``job``)."""

    model_config = ConfigDict(extra="forbid")

    spec: JobSpec | None = Field(default=None, description="A parsed job, in wire form")
    job: dict[str, Any] | None = Field(default=None, description="A document with the keys of a job file")
    base_dir: str | None = Field(default=None, description="Folder that relative paths of `job` start from; absolute")

    def to_spec(self) -> JobSpec:
        """The job. Raises SpecError."""
        if (self.spec is None) == (self.job is None):
            raise SpecError([Problem(path="", message="exactly one of spec and job is needed", allowed="spec, or job")])
        if self.spec is not None:
            return self.spec
        base = Path(self.base_dir or "/")
        if not base.is_absolute():
            raise SpecError([Problem(path="base_dir", message=f"found {self.base_dir!r}", allowed="an absolute path")])
        return parse_job(self.job, base_dir=base, source="job")


class SubmitBody(SpecBody):
    """A job to run, with the plan that it should start with."""

    plan_id: str | None = Field(default=None, description="A stored plan; 409 when it is out of date")


class JobList(BaseModel):
    """Jobs, newest first."""

    items: list[JobView]
    next_page_token: str | None = None


class EventList(BaseModel):
    """Events in order of number."""

    items: list[EventView]


class ProbeList(BaseModel):
    """Probe reports, one per fingerprint."""

    items: list[ProbeReport]


class PlanList(BaseModel):
    """Plans."""

    items: list[Plan]


class RankList(BaseModel):
    """Ranks that have a log; -1 is the agent's own."""

    items: list[int]


class ProblemEntry(BaseModel):
    """One thing that is wrong in a document."""

    pointer: str = Field(description="JSON Pointer (RFC 6901) of the field")
    detail: str
    path: str = ""
    line: int | None = None
    column: int | None = None
    allowed: str | None = None
    nearest: str | None = None


class ProblemBody(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str = ""
    errors: list[ProblemEntry] = []
    reasons: list[str] = []


def json_answer(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A domain value as a JSON answer."""
    return _answer(encode(value), status, headers)


def list_answer(items: Iterable[object], **extra: object) -> Response:
    """Values in the envelope of a list."""
    return _answer({"items": [encode(item) for item in items], **extra}, 200, None)


def _answer(data: object, status: int, headers: dict[str, str] | None) -> Response:
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Response(text, status_code=status, media_type="application/json", headers=headers)
