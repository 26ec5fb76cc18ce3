"""Follows the log of a job's ranks through queueing, restarts of the job and restarts of the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trimtab.client.client import Client
from trimtab.job import JOB_ENDS

_WAIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPiece:
    """Bytes that one rank of one attempt wrote."""

    attempt: int
    rank: int
    data: bytes


def follow_log(client: Client, job: str, *, rank: int, attempt: int | None = None) -> Iterator[LogPiece]:
    """The log of a rank from its beginning to the end of the job; with ``attempt`` of that attempt alone.

    Waits while the job is queued, and goes on with the next attempt after a retry. Raises as Client's methods do; a caller that
    wants to outlive the server starts again from the offset that it reached (the lengths of the pieces).
    """
    current, offset = attempt, 0
    while True:
        if current is None:
            view = client.job(job)
            if view.attempts:
                current = max(a.ref.number for a in view.attempts)
            elif view.state in JOB_ENDS:
                return
            else:
                client.events(after=_newest(client, job), job=job, wait_s=_WAIT_S)
                continue
        data, offset, complete = client.log(job, rank=rank, attempt=current, offset=offset, wait_s=_WAIT_S)
        if data:
            yield LogPiece(attempt=current, rank=rank, data=data)
        if not complete:
            continue
        if attempt is not None:
            return
        following = _next_attempt(client, job, current)
        if following is None:
            return
        current, offset = following, 0


def _next_attempt(client: Client, job: str, current: int) -> int | None:
    """The attempt after ``current``; waits for one while the job is not at its end. None: there will be none."""
    while True:
        newest = _newest(client, job)
        view = client.job(job)
        later = [a.ref.number for a in view.attempts if a.ref.number > current]
        if later:
            return min(later)
        if view.state in JOB_ENDS:
            return None
        client.events(after=newest, job=job, wait_s=_WAIT_S)


def _newest(client: Client, job: str) -> int:
    return client.status().last_event
