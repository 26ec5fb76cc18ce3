"""The ASGI application over a control service."""

from __future__ import annotations

from fastapi import FastAPI

from scheduler.entrypoints.rest import jobs, problems, system
from scheduler.entrypoints.rest.bodies import ProblemBody
from scheduler.entrypoints.rest.context import RestContext

_DESCRIPTION = """Plans, jobs, logs, events and inventory of one Trimtab control plane.

Times are RFC 3339 in UTC, sizes in bytes, durations in seconds; units end the names of fields. Numbers that JSON lacks travel
as the strings `inf`, `-inf` and `nan`. Errors are `application/problem+json` (RFC 9457). A `job` in an address is an id, a
unique prefix of one, or the name of a job (the newest of that name)."""


def create_app(context: RestContext, *, version: str) -> FastAPI:
    """The application; stateless but for its context."""
    app = FastAPI(
        title="Trimtab",
        version=version,
        description=_DESCRIPTION,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": ProblemBody, "description": "Problem", "content": {"application/problem+json": {}}}},
    )
    app.state.context = context
    problems.install(app)
    app.include_router(jobs.router)
    app.include_router(system.router)
    app.add_middleware(problems.BodyLimit)
    return app
