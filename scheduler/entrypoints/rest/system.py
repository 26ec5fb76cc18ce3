"""Events, inventory, probes, and the control process itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from scheduler.entrypoints.rest.bodies import EventList, ProbeList, json_answer, list_answer
from scheduler.entrypoints.rest.context import RestContext, context_of, require
from scheduler.ports import Action
from trimtab.errors import Problem, SpecError, TrimtabError
from trimtab.inventory import Inventory, ProbeReport
from trimtab.views import EventView, ServerStatus
from trimtab.wire import dumps, loads

router = APIRouter()

MAX_WAIT_S = 30.0
HEARTBEAT_S = 15.0
_STEP_S = 1.0

_After = Annotated[int | None, Query(ge=0, description="Only events with a higher number")]
_Limit = Annotated[int, Query(ge=1, le=1000)]
_Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Wait so long for something new, progress included")]
_LastId = Annotated[str | None, Header(description="The number of the last event seen; events after it follow")]


@router.get("/v1/events", responses={200: {"model": EventList}}, tags=["events"])
async def events(
    request: Request,
    after: _After = None,
    limit: _Limit = 1000,
    wait_s: _Wait = 0.0,
    last_event_id: _LastId = None,
) -> Response:
    """Events. With ``Accept: text/event-stream`` a stream that never ends; else a list, at once or after ``wait_s``."""
    return await _events(request, None, _start(after, last_event_id), limit, wait_s)


@router.get("/v1/jobs/{job}/events", responses={200: {"model": EventList}}, tags=["events"])
async def job_events(
    request: Request,
    job: str,
    after: _After = None,
    limit: _Limit = 1000,
    wait_s: _Wait = 0.0,
    last_event_id: _LastId = None,
) -> Response:
    """Events of one job, as ``/v1/events``."""
    context = context_of(request)
    job_id = (await context.in_thread(context.service.job, job)).id
    return await _events(request, job_id, _start(after, last_event_id), limit, wait_s)


async def _events(request: Request, job: str | None, after: int, limit: int, wait_s: float) -> Response:
    context = context_of(request)
    if "text/event-stream" in request.headers.get("accept", ""):
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_stream(context, request, job, after), media_type="text/event-stream", headers=headers)
    newest = after
    if wait_s > 0:
        # Read before the events: what comes between the two ends the wait at once instead of being slept over.
        newest = (await context.in_thread(context.service.status)).last_event
    items = await context.in_thread(context.service.events, after=after, job=job, limit=limit)
    if not items and wait_s > 0:
        await _wait(context, max(after, newest), wait_s)
        items = await context.in_thread(context.service.events, after=after, job=job, limit=limit)
    return list_answer(items)


async def _wait(context: RestContext, newest: int, wait_s: float) -> None:
    """Until something happened that is newer than event ``newest`` (progress counts too), or the time is over."""
    end = time.monotonic() + wait_s
    while (left := end - time.monotonic()) > 0 and not context.stopping.is_set():
        if await context.in_thread(context.service.wait_events, after=newest, timeout_s=min(left, _STEP_S)):
            return


async def _stream(context: RestContext, request: Request, job: str | None, after: int) -> AsyncIterator[bytes]:
    """Server-sent events with ids, and a comment after each silence so that both ends see a dead connection."""
    spoken = time.monotonic()
    yield b": trimtab events\n\n"
    while not context.stopping.is_set():
        newest = (await context.in_thread(context.service.status)).last_event
        for event in await context.in_thread(context.service.events, after=after, job=job, limit=1000):
            after, spoken = event.number, time.monotonic()
            yield _sse(event)
        if time.monotonic() - spoken >= HEARTBEAT_S:
            spoken = time.monotonic()
            yield b": still here\n\n"
        await context.in_thread(context.service.wait_events, after=max(after, newest), timeout_s=_STEP_S)
        if await request.is_disconnected():
            return


def _sse(event: EventView) -> bytes:
    return f"id: {event.number}\nevent: {event.kind}\ndata: {dumps(event)}\n\n".encode()


def _start(after: int | None, last_event_id: str | None) -> int:
    if last_event_id is None:
        return after or 0
    if not last_event_id.isascii() or not last_event_id.isdigit():
        raise SpecError([Problem(path="Last-Event-ID", message=f"found {last_event_id!r}", allowed="the number of an event")])
    return int(last_event_id)


@router.get("/v1/inventory", responses={200: {"model": Inventory}}, tags=["inventory"])
def inventory(request: Request) -> Response:
    """Pools, nodes, devices and offers as seen now."""
    return json_answer(context_of(request).service.inventory())


@router.get("/v1/probes", responses={200: {"model": ProbeList}}, tags=["inventory"])
def probes(request: Request) -> Response:
    """The probe reports that plans use."""
    return list_answer(context_of(request).service.probes())


@router.put("/v1/probes/{fingerprint}", status_code=204, tags=["inventory"])
async def put_probe(request: Request, fingerprint: str) -> Response:
    """Use this report for nodes of that fingerprint from now on. The body is a ProbeReport in wire form."""
    try:
        report = loads(ProbeReport, await request.body())
    except ValueError as error:
        raise SpecError([Problem(path="", message=f"not a probe report: {error}")]) from None
    if report.fingerprint != fingerprint:
        problem = Problem(
            path="fingerprint", message=f"found {report.fingerprint!r}", allowed=f"that of the address, {fingerprint!r}"
        )
        raise SpecError([problem])
    require(request, Action.ADMIN)
    context = context_of(request)
    await context.in_thread(context.service.put_probe, report)
    return Response(status_code=204)


@router.get("/v1/status", responses={200: {"model": ServerStatus}}, tags=["server"])
def status(request: Request) -> Response:
    """The control process."""
    return json_answer(context_of(request).service.status())


@router.get("/healthz", response_class=PlainTextResponse, tags=["server"])
async def healthz() -> Response:
    """The process answers."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", response_class=PlainTextResponse, tags=["server"])
def readyz(request: Request) -> Response:
    """The process can serve: its store answers and its loop turns."""
    try:
        found = context_of(request).service.status()
    except TrimtabError as error:
        return PlainTextResponse(f"not ready: {error}\n", status_code=503)
    return PlainTextResponse(f"ready, term {found.term}\n")


@router.get("/metrics", response_class=PlainTextResponse, tags=["server"])
def metrics(request: Request) -> Response:
    """Counters, gauges and timings for Prometheus."""
    return Response(context_of(request).metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")
