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

from scheduler.service.interface import ControlService

T = TypeVar("T")

MAX_WAITS = 256
"""Long polls and event streams at one time; the next ones queue behind them."""


@dataclass(slots=True, kw_only=True)
class RestContext:
    """``metrics`` gives the Prometheus text, ``user_name`` the name of a peer's user id; ``stopping`` ends the streams."""

    service: ControlService
    metrics: Callable[[], bytes]
    user_name: Callable[[int | None], str]
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
