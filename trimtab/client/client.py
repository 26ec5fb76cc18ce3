"""The verbs of the control plane as methods: the SDK, and all that the command line uses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from trimtab.client.problems import error_of_problem
from trimtab.client.transport import DEFAULT_TIMEOUT_S, Response, StreamRefused, Transport, local_address
from trimtab.errors import TrimtabError
from trimtab.ids import AttemptRef
from trimtab.inventory import Inventory, ProbeReport
from trimtab.jobspec import JobSpec
from trimtab.plan import Plan
from trimtab.views import EventView, Explanation, JobView, ServerStatus
from trimtab.wire import decode, encode

T = TypeVar("T")

PLAN_TIMEOUT_S = 300.0
_STREAM_SILENCE_S = 60.0  # the server sends a sign of life every 15 s


class Client:
    """Client of one control plane; thread-safe, holds no connection open between calls.

    Each method raises the error of ``trimtab.errors`` that the server met (SpecError, InfeasibleError, NotFoundError,
    ConflictError ...), and UnavailableError when no server answers. ``job`` is an id, a unique prefix of one, or a job's name.
    """

    def __init__(self, address: str | None = None, *, token: str | None = None, ca_file: str | None = None) -> None:
        self._transport = Transport(address or local_address(), token=token, ca_file=ca_file)

    @property
    def address(self) -> str:
        """Where the server is."""
        return self._transport.address

    def plan(self, spec: JobSpec) -> Plan:
        """Plan a job beside what runs now; the plan is stored, nothing else changes."""
        return decode(Plan, self._json("POST", "/v1/plans", {"spec": encode(spec)}, timeout_s=PLAN_TIMEOUT_S))

    def stored_plan(self, plan_id: str) -> Plan:
        """A plan made before."""
        return decode(Plan, self._json("GET", f"/v1/plans/{quote(plan_id, safe='')}"))

    def submit(self, spec: JobSpec, *, plan_id: str | None = None, idempotency_key: str | None = None) -> JobView:
        """Accept a job; durable when it returns. With ``plan_id`` it starts with that plan; ConflictError: it is out of date."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
        body = {"spec": encode(spec), "plan_id": plan_id}
        return decode(JobView, self._json("POST", "/v1/jobs", body, headers=headers))

    def jobs(self, *, states: Sequence[str] = (), limit: int = 100, after: str = "") -> tuple[JobView, ...]:
        """Jobs, newest first."""
        query = [("state", state) for state in states] + [("limit", str(limit))]
        if after:
            query.append(("page_token", after))
        return _many(JobView, self._json("GET", "/v1/jobs?" + urlencode(query))["items"])

    def job(self, job: str) -> JobView:
        """One job."""
        return decode(JobView, self._json("GET", _job(job)))

    def cancel(self, job: str) -> JobView:
        """Cancel; idempotent."""
        return decode(JobView, self._json("POST", _job(job) + "/cancel", {}))

    def suspend(self, job: str) -> JobView:
        """Checkpoint, stop and keep for later."""
        return decode(JobView, self._json("POST", _job(job) + "/suspend", {}))

    def resume(self, job: str) -> JobView:
        """Put a suspended job back into the queue."""
        return decode(JobView, self._json("POST", _job(job) + "/resume", {}))

    def vouch_dead(self, attempt: AttemptRef) -> None:
        """Vouch that nothing of an UNKNOWN attempt runs any more; its devices become free."""
        self._json("POST", f"/v1/attempts/{quote(str(attempt), safe='')}/vouch-dead", {})

    def explain(self, job: str) -> Explanation:
        """Why the job is where it is."""
        return decode(Explanation, self._json("GET", _job(job) + "/explanation"))

    def events(self, *, after: int, job: str | None = None, limit: int = 1000, wait_s: float = 0.0) -> tuple[EventView, ...]:
        """Events with a higher number; with ``wait_s`` the answer comes when something new may be there, or after that time."""
        query = urlencode({"after": after, "limit": limit, "wait_s": wait_s})
        path = (_job(job) + "/events?" if job else "/v1/events?") + query
        return _many(EventView, self._json("GET", path, timeout_s=DEFAULT_TIMEOUT_S + wait_s)["items"])

    def follow_events(self, *, after: int = 0, job: str | None = None) -> Iterator[EventView]:
        """Events as they happen, by server-sent events, until the connection ends. Go on with the last number seen."""
        path = _job(job) + "/events" if job else "/v1/events"
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        try:
            for line in self._transport.stream(path, headers=headers, timeout_s=_STREAM_SILENCE_S):
                if line.startswith(b"data:"):
                    yield decode(EventView, json.loads(line[5:]))
        except StreamRefused as refused:
            raise _error(refused.response) from None

    def log(
        self, job: str, *, rank: int, attempt: int | None = None, offset: int = 0, limit: int = 1 << 20, wait_s: float = 0.0
    ) -> tuple[bytes, int, bool]:
        """A piece of a rank's log: bytes, the offset behind them, and whether the log is complete there."""
        query = {"rank": rank, "offset": offset, "limit": limit, "wait_s": wait_s}
        if attempt is not None:
            query["attempt"] = attempt
        path = f"{_job(job)}/logs?{urlencode(query)}"
        response = self._answer("GET", path, headers={"Accept": "text/plain"}, timeout_s=DEFAULT_TIMEOUT_S + wait_s)
        return response.body, int(response.headers["trimtab-next-offset"]), response.headers["trimtab-complete"] == "true"

    def log_ranks(self, job: str, *, attempt: int | None = None) -> tuple[int, ...]:
        """Ranks with a log; -1 is the agent's own."""
        query = "" if attempt is None else f"?attempt={attempt}"
        return tuple(int(rank) for rank in self._json("GET", f"{_job(job)}/logs/ranks{query}")["items"])

    def inventory(self) -> Inventory:
        """What there is now."""
        return decode(Inventory, self._json("GET", "/v1/inventory"))

    def probes(self) -> tuple[ProbeReport, ...]:
        """Probe reports that plans use."""
        return _many(ProbeReport, self._json("GET", "/v1/probes")["items"])

    def put_probe(self, report: ProbeReport) -> None:
        """Use this report from now on."""
        self._json("PUT", f"/v1/probes/{quote(report.fingerprint, safe='')}", encode(report))

    def status(self) -> ServerStatus:
        """The control process itself."""
        return decode(ServerStatus, self._json("GET", "/v1/status"))

    def _json(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Any:
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        response = self._answer(method, path, body=data, headers=headers, timeout_s=timeout_s)
        return json.loads(response.body) if response.body else None

    def _answer(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
    ) -> Response:
        response = self._transport.request(method, path, body=body, headers=headers, timeout_s=timeout_s)
        if response.status >= 400:
            raise _error(response)
        return response


def _job(job: str) -> str:
    return f"/v1/jobs/{quote(job, safe='')}"


def _many(cls: type[T], items: Sequence[Any]) -> tuple[T, ...]:
    return tuple(decode(cls, item) for item in items)


def _error(response: Response) -> TrimtabError:
    try:
        body = json.loads(response.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        text = response.body[:200].decode(errors="replace").strip()
        return TrimtabError(f"the server answered {response.status}: {text}")
    return error_of_problem(body, status=response.status)
