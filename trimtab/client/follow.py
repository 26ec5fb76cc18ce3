"""Follows the log of a job's ranks through queueing, retries of the job and restarts of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from trimtab.client.client import Client
from trimtab.errors import UnavailableError
from trimtab.job import JOB_ENDS

T = TypeVar("T")

_WAIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPiece:
    """Bytes that one rank of one attempt wrote."""

    attempt: int
    rank: int
    data: bytes


def follow_log(
    client: Client,
    job: str,
    *,
    rank: int,
    attempt: int | None = None,
    on_lost: Callable[[UnavailableError], None] | None = None,
) -> Iterator[LogPiece]:
    """The log of a rank, from the beginning of ``attempt`` (the newest) on to the end of the job.

    Waits while the job is queued, and goes on with the next attempt after a retry. When the server cannot be reached ``on_lost``
    may wait or start it, and the log goes on where it was; without it, or when it raises, UnavailableError ends the iteration.
    """

    def ask(call: Callable[..., T], *arguments: object, **options: object) -> T:
        while True:
            try:
                return call(*arguments, **options)
            except UnavailableError as error:
                if on_lost is None:
                    raise
                on_lost(error)

    job_id = str(ask(client.job, job).id)
    current = attempt if attempt is not None else ask(_next_attempt, client, job_id, behind=None)
    while current is not None:
        offset, complete = 0, False
        while not complete:
            data, offset, complete = ask(client.log, job_id, rank=rank, attempt=current, offset=offset, wait_s=_WAIT_S)
            if data:
                yield LogPiece(attempt=current, rank=rank, data=data)
        current = ask(_next_attempt, client, job_id, behind=current)


def _next_attempt(client: Client, job: str, *, behind: int | None) -> int | None:
    """The first attempt after ``behind`` (None: the newest); waits for one while the job has not ended. None: there is none."""
    while True:
        newest = client.status().last_event
        view = client.job(job)
        numbers = [a.ref.number for a in view.attempts if behind is None or a.ref.number > behind]
        if numbers:
            return max(numbers) if behind is None else min(numbers)
        if view.state in JOB_ENDS:
            return None
        client.events(after=newest, job=job, wait_s=_WAIT_S)
