"""The ASGI application over a control service."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from scheduler.entrypoints.rest import jobs, problems, system
from scheduler.entrypoints.rest.bodies import ProblemBody
from scheduler.entrypoints.rest.context import RestContext

_DESCRIPTION = """Plans, jobs, logs, events and inventory of one Trimtab control plane.

Times are RFC 3339 in UTC, sizes in bytes, durations in seconds; units end the names of fields. Numbers that JSON lacks travel
as the strings `inf`, `-inf` and `nan`. Errors are `application/problem+json` (RFC 9457). A `job` in an address is an id, a
unique prefix of one, or the name of a job (the newest of that name)."""


class _Application(FastAPI):
    """Its document gives problems the media type that they have; the framework only knows that of each route's own answer."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            found = super().openapi()
            for operation in (operation for path in found["paths"].values() for operation in path.values()):
                operation["responses"].pop("422", None)  # a problem as any other
                problem = operation["responses"]["default"]
                problem["content"] = {"application/problem+json": next(iter(problem["content"].values()))}
            self.openapi_schema = found
        return self.openapi_schema


def create_app(context: RestContext, *, version: str) -> FastAPI:
    """The application; stateless but for its context."""
    app = _Application(
        title="Trimtab",
        version=version,
        description=_DESCRIPTION,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses={"default": {"model": ProblemBody, "description": "Problem"}},
    )
    app.state.context = context
    app.state.api_routes = (*jobs.router.routes, *system.router.routes)
    problems.install(app)
    app.include_router(jobs.router)
    app.include_router(system.router)
    app.add_middleware(problems.BodyLimit)
    return app
