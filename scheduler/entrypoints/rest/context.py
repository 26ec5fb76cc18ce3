"""What the routes work with, and how they wait without holding the event loop."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import Request

from scheduler.ports import Action, Identity
from scheduler.service.interface import ControlService
from trimtab.errors import AuthenticationError
from trimtab.jobspec import DEFAULT_PROJECT

T = TypeVar("T")

MAX_WAITS = 256
"""Long polls and event streams at one time; the next ones queue behind them."""


@dataclass(slots=True, kw_only=True)
class RestContext:
    """``metrics`` gives the Prometheus text, ``user_name`` the name of a peer's user id, ``identity`` says what that user may do;
    ``stopping`` ends the streams.
    """

    service: ControlService
    metrics: Callable[[], bytes]
    user_name: Callable[[int | None], str]
    identity: Identity
    stopping: threading.Event = field(default_factory=threading.Event)
    _waits: anyio.CapacityLimiter | None = None

    async def in_thread(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a blocking call that may wait long, apart from the threads of ordinary requests."""
        if self._waits is None:
            self._waits = anyio.CapacityLimiter(MAX_WAITS)
        return await anyio.to_thread.run_sync(functools.partial(function, *args, **kwargs), limiter=self._waits)


def context_of(request: Request) -> RestContext:
    """The context of the application that a request came to."""
    context = request.app.state.context
    assert isinstance(context, RestContext)
    return context


def caller_of(request: Request) -> str:
    """Name of the user at the other end of the unix socket."""
    return context_of(request).user_name(request.scope.get("peer_uid"))


def require(request: Request, action: Action) -> str:
    """The caller's name, where the caller may do this. Raises AuthenticationError."""
    context, caller = context_of(request), caller_of(request)
    principal = context.identity.authenticate(None, local_user=caller)
    if principal is None or not context.identity.allowed(principal, action, DEFAULT_PROJECT):
        raise AuthenticationError(f"{caller} may not do this here: it is for the owner of the control process")
    return caller


def require_control(request: Request, job: str) -> None:
    """The caller submitted this job, or may control every job. Raises AuthenticationError, and NotFoundError for no such job."""
    caller = require(request, Action.SUBMIT)
    view = context_of(request).service.job(job)
    if view.submitted_by == caller:
        return
    try:
        require(request, Action.CONTROL)
    except AuthenticationError:
        message = f"{caller} may not change job {view.id}: {view.submitted_by} submitted it"
        raise AuthenticationError(message) from None
