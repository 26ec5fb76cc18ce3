"""Plans and jobs: what changes state, and what is asked about one job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import anyio
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from scheduler.entrypoints.rest.bodies import JobList, RankList, SpecBody, SubmitBody, json_answer, list_answer
from scheduler.entrypoints.rest.context import RestContext, context_of, require, require_control
from scheduler.ports import Action, LogChunk
from trimtab.errors import NotFoundError, Problem, SpecError
from trimtab.ids import AttemptRef
from trimtab.job import JOB_ENDS, JobState
from trimtab.plan import Plan
from trimtab.views import Explanation, JobView

router = APIRouter(prefix="/v1")

MAX_WAIT_S = 30.0
_CHECK_S = 1.0
_LOG_STEP_S = 0.25
_MAX_LOG_BYTES = 4 << 20


@router.post("/plans", status_code=201, responses={201: {"model": Plan}}, tags=["plans"])
def make_plan(request: Request, body: SpecBody) -> Response:
    """Plan a job beside what runs now. The plan is stored and can be submitted; nothing else changes."""
    require(request, Action.SUBMIT)
    plan = context_of(request).service.plan(body.to_spec())
    return json_answer(plan, status=201, headers={"Location": f"/v1/plans/{plan.id}"})


@router.get("/plans/{plan_id}", responses={200: {"model": Plan}}, tags=["plans"])
def stored_plan(request: Request, plan_id: str) -> Response:
    """A plan made before."""
    return json_answer(context_of(request).service.stored_plan(plan_id))


@router.post("/jobs", status_code=201, responses={201: {"model": JobView}}, tags=["jobs"])
def submit(
    request: Request,
    body: SubmitBody,
    idempotency_key: Annotated[str | None, Header(max_length=255, description="The same key gives the same job")] = None,
) -> Response:
    """Accept a job; durable when the answer comes. 409 when the plan is out of date or the key was used with another body."""
    caller = require(request, Action.SUBMIT)
    view = context_of(request).service.submit(
        body.to_spec(), plan_id=body.plan_id, idempotency_key=idempotency_key, submitted_by=caller
    )
    return json_answer(view, status=201, headers={"Location": f"/v1/jobs/{view.id}"})


@router.get("/jobs", responses={200: {"model": JobList}}, tags=["jobs"])
def list_jobs(
    request: Request,
    state: Annotated[list[JobState] | None, Query(description="Only jobs in one of these states")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    page_token: Annotated[str, Query(max_length=200, description="`next_page_token` of the page before")] = "",
) -> Response:
    """Jobs, newest first."""
    states = tuple(str(s) for s in state or ())
    items = context_of(request).service.jobs(states=states, limit=limit, after=page_token)
    token = str(items[-1].id) if len(items) == limit else None
    return list_answer(items, next_page_token=token)


@router.get("/jobs/{job}", responses={200: {"model": JobView}}, tags=["jobs"])
def get_job(request: Request, job: str) -> Response:
    """One job, by id, unique prefix of an id, or name (the newest of that name)."""
    return json_answer(context_of(request).service.job(job))


@router.post("/jobs/{job}/cancel", status_code=202, responses={202: {"model": JobView}}, tags=["jobs"])
def cancel(request: Request, job: str) -> Response:
    """Cancel for good. Idempotent."""
    require_control(request, job)
    return json_answer(context_of(request).service.cancel(job), status=202)


@router.post("/jobs/{job}/suspend", status_code=202, responses={202: {"model": JobView}}, tags=["jobs"])
def suspend(request: Request, job: str) -> Response:
    """Checkpoint, stop, and keep for later. Idempotent."""
    require_control(request, job)
    return json_answer(context_of(request).service.suspend(job), status=202)


@router.post("/jobs/{job}/resume", status_code=202, responses={202: {"model": JobView}}, tags=["jobs"])
def resume(request: Request, job: str) -> Response:
    """Put a suspended job back into the queue. Idempotent."""
    require_control(request, job)
    return json_answer(context_of(request).service.resume(job), status=202)


@router.get("/jobs/{job}/explanation", responses={200: {"model": Explanation}}, tags=["jobs"])
def explanation(request: Request, job: str) -> Response:
    """Why the job is where it is, and the smallest change that would let it run."""
    return json_answer(context_of(request).service.explain(job))


@router.post("/attempts/{attempt}/vouch-dead", status_code=202, tags=["jobs"])
def vouch_dead(request: Request, attempt: str) -> Response:
    """The caller vouches that nothing of an UNKNOWN attempt runs any more; its devices become free."""
    try:
        ref = AttemptRef.parse(attempt)
    except ValueError as error:
        raise SpecError([Problem(path="attempt", message=str(error), allowed="an attempt as job_x.u0.a1")]) from None
    operator = require(request, Action.ADMIN)
    context_of(request).service.vouch_dead(ref, operator=operator)
    return Response(status_code=202)


@router.get("/jobs/{job}/logs/ranks", responses={200: {"model": RankList}}, tags=["logs"])
def log_ranks(request: Request, job: str, attempt: Annotated[int | None, Query(ge=1)] = None) -> Response:
    """Ranks that have a log in an attempt (the newest by default)."""
    return list_answer(context_of(request).service.log_ranks(job, attempt=attempt))


@router.get("/jobs/{job}/logs", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, tags=["logs"])
async def logs(
    request: Request,
    job: str,
    rank: Annotated[int, Query(ge=-1)] = 0,
    attempt: Annotated[int | None, Query(ge=1)] = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=_MAX_LOG_BYTES)] = 1 << 20,
    wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Wait so long for more")] = 0.0,
    follow: Annotated[bool, Query(description="Stream to the end of the attempt")] = False,
) -> Response:
    """A rank's log as written, from ``offset``. Headers: ``Trimtab-Next-Offset`` goes on, ``Trimtab-Complete`` says it is all."""
    context = context_of(request)
    if follow:
        number = await context.in_thread(_attempt_number, context, job, attempt)
        stream = _follow(context, job, attempt=number, rank=rank, offset=offset)
        return StreamingResponse(stream, media_type="text/plain; charset=utf-8")
    chunk = await context.in_thread(context.service.log, job, attempt=attempt, rank=rank, offset=offset, limit=limit)
    waited = 0.0
    while not chunk.data and not chunk.complete and waited < wait_s and not context.stopping.is_set():
        await _pause(context, _LOG_STEP_S)
        waited += _LOG_STEP_S
        chunk = await context.in_thread(context.service.log, job, attempt=attempt, rank=rank, offset=offset, limit=limit)
    return _log_answer(chunk)


def _log_answer(chunk: LogChunk) -> Response:
    headers = {"Trimtab-Next-Offset": str(chunk.next_offset), "Trimtab-Complete": "true" if chunk.complete else "false"}
    return Response(chunk.data, media_type="text/plain; charset=utf-8", headers=headers)


def _attempt_number(context: RestContext, job: str, attempt: int | None) -> int:
    """The attempt to follow: fixed at the start, so that a retry does not splice two logs into one."""
    view = context.service.job(job)
    if attempt is not None:
        return attempt
    if not view.attempts:
        state = "ended without" if view.state in JOB_ENDS else "has not begun"
        raise NotFoundError(f"job {view.id} {state} an attempt: there is no log to follow")
    return max(a.ref.number for a in view.attempts)


async def _follow(context: RestContext, job: str, *, attempt: int, rank: int, offset: int) -> AsyncIterator[bytes]:
    while not context.stopping.is_set():
        chunk = await context.in_thread(context.service.log, job, attempt=attempt, rank=rank, offset=offset, limit=1 << 16)
        if chunk.data:
            offset = chunk.next_offset
            yield chunk.data
        elif chunk.complete:
            return
        else:
            await _pause(context, _LOG_STEP_S)


async def _pause(context: RestContext, seconds: float) -> None:
    await anyio.sleep(min(seconds, _CHECK_S))
