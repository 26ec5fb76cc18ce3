"""The control plane: the verbs of ``ControlService``, the calls of agents, and the thread that runs the loops."""

from __future__ import annotations

import difflib
import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from scheduler.core import jobs, recheck
from scheduler.core.orders import credential_digest, credential_for
from scheduler.core.rows import IdempotencyEntry, StoredPlan, decode_row
from scheduler.core.snapshot import Snapshot, Write
from scheduler.ports import Applied, LogChunk, PlanOutcomeKind, RecordKind
from scheduler.service import views
from scheduler.service.agents import AgentDesk
from scheduler.service.commands import CommandRunner, PlanShelf
from scheduler.service.live import LiveBook
from scheduler.service.mirror import Mirror
from scheduler.service.planning import PlanningLoop, build_problem
from scheduler.service.reconcile import Reconciler, plan_write
from scheduler.service.wiring import ControlPorts, ControlSettings
from trimtab import wire
from trimtab.errors import ConflictError, InfeasibleError, NotFoundError, SolverError, SpecError, StoreError, UnavailableError
from trimtab.ids import AttemptRef, JobId, PlanId, new_job_id, unit_id
from trimtab.inventory import DeviceState, Inventory, ProbeReport
from trimtab.job import Job
from trimtab.jobspec import JobSpec
from trimtab.orders import CheckpointNote, ClaimReply, ClaimRequest, ReportReply, RunReport
from trimtab.plan import Assignment, Plan, PlanRequest, Rejection, RejectionReason
from trimtab.views import EventView, Explanation, JobView, ServerStatus

_LOG = logging.getLogger("trimtab.control")
_MAX_CONFLICTS = 20
_PLAN_POLL_S = 0.02
_PRUNE_EVERY_S = 3600.0
_MAX_REASONS = 12


class ControlPlane:
    """ControlService and AgentHandler over the ports. Thread-safe; ``start`` runs the loops in a thread of its own.

    Everything is rebuilt from the store and from ``Executor.observe``: a new ControlPlane over the same store goes on where the
    old one stopped, and running attempts notice nothing.
    """

    def __init__(self, ports: ControlPorts, settings: ControlSettings) -> None:
        self._ports = ports
        self._settings = settings
        self._news = threading.Condition()
        self._num_news = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._started_at = ports.clock.now()
        self._live = LiveBook()
        self._mirror = Mirror(ports.store, random_bytes=ports.random_bytes, on_change=self._tell)
        self._plans = PlanShelf(ports)
        self._planning = PlanningLoop(ports, settings)
        self._agents = AgentDesk(ports, self._mirror, self._live)
        self._commands = CommandRunner(ports, settings, mirror=self._mirror, live=self._live, plans=self._plans)
        self._reconciler = Reconciler(
            ports, settings, mirror=self._mirror, live=self._live, planning=self._planning, commands=self._commands
        )
        self._mirror.reload()

    # -------------------------------------------------------------------------------------------------------- the loops

    def start(self) -> None:
        """Run the loops until ``close``."""
        self._thread = threading.Thread(target=self._run, name="trimtab-loops", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the loops and give the lease up. Running attempts go on; the ports stay open."""
        self._stopping.set()
        self._ports.clock.wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        try:
            self._reconciler.give_up_lease()
        except StoreError as error:
            _LOG.warning("the lease was not given up: %s", error)
        self._tell()

    def cycle(self) -> None:
        """One round of the reconcile loop, with the planning loop's step in it."""
        self._reconciler.cycle()

    def _run(self) -> None:
        clock = self._ports.clock
        prune_at_s = clock.monotonic() + _PRUNE_EVERY_S
        while not self._stopping.is_set():
            self.cycle()
            if clock.monotonic() >= prune_at_s:
                prune_at_s = clock.monotonic() + _PRUNE_EVERY_S
                self._prune()
            until_s = clock.monotonic() + self._settings.cycle_s
            while not self._stopping.is_set():
                left_s = min(until_s - clock.monotonic(), self._planning.due_in_s())
                if left_s <= 0 or (self._planning.in_flight and self._answered()):
                    break
                if clock.wait(min(left_s, _PLAN_POLL_S) if self._planning.in_flight else left_s):
                    break

    def _prune(self) -> None:
        try:
            num_pruned = self.prune_plans()
        except (StoreError, ValueError) as error:
            _LOG.warning("old plans were not pruned: %s", error)
        else:
            _LOG.info("%d plans that nobody used were pruned", num_pruned)

    def _answered(self) -> bool:
        try:
            return self._planning.has_answer()
        except Exception:
            _LOG.exception("the planner cannot be asked")
            return False

    def _tell(self) -> None:
        with self._news:
            self._num_news += 1
            self._news.notify_all()

    # ----------------------------------------------------------------------------------------------------------- agents

    def claim(self, request: ClaimRequest, credential: str) -> ClaimReply:
        """See AgentHandler."""
        return self._agents.claim(request, credential)

    def report(self, report: RunReport, credential: str) -> ReportReply:
        """See AgentHandler."""
        reply = self._agents.report(report, credential)
        self._tell()
        return reply

    def publish_checkpoint(self, attempt: AttemptRef, note: CheckpointNote, credential: str) -> bool:
        """See AgentHandler."""
        return self._agents.publish_checkpoint(attempt, note, credential)

    # ------------------------------------------------------------------------------------------------------------ plans

    def plan(self, spec: JobSpec) -> Plan:
        """See ControlService. A plan that leaves the job out only because devices are taken is returned: the job can queue."""
        snapshot, now = self._mirror.settle(), self._ports.clock.now()
        job_id = new_job_id(now, self._ports.random_bytes(5))
        request = PlanRequest(unit_id=unit_id(job_id, 0), job_id=job_id, spec=spec)
        inventory = self._reconciler.refresh_inventory()
        problem = build_problem(snapshot, inventory, ports=self._ports, settings=self._settings, now=now, alone=request)
        plan = self._ask_planner(self._ports.planner.submit(problem))
        unplaced = next((one for one in plan.unplaced if one.unit_id == request.unit_id), None)
        if unplaced is not None and unplaced.reason is not RejectionReason.NO_CAPACITY:
            raise InfeasibleError(_infeasible(unplaced.detail, unplaced.smallest_change), reasons=_reasons(plan))
        stored = StoredPlan(plan=plan, spec_digest=spec_digest(spec), unit_id=request.unit_id)
        self._mirror.commit(plan_write(stored, now), op_id=f"plan/{plan.id}")
        return plan

    def _ask_planner(self, ticket: str) -> Plan:
        while (outcome := self._ports.planner.poll(ticket)) is None:
            if self._stopping.is_set():
                raise UnavailableError("the control process is stopping")
            self._ports.clock.wait(_PLAN_POLL_S)
        if outcome.kind is not PlanOutcomeKind.PLANNED or outcome.plan is None:
            raise SolverError(f"planning {outcome.kind}: {outcome.detail}")
        return outcome.plan

    def stored_plan(self, plan_id: str) -> Plan:
        """See ControlService."""
        return self._stored(plan_id).plan

    def _stored(self, plan_id: str) -> StoredPlan:
        stored = self._plans.get(PlanId(plan_id))
        if stored is None:
            raise NotFoundError(f"no plan {plan_id!r}")
        return stored

    # ------------------------------------------------------------------------------------------------------------- jobs

    def submit(self, spec: JobSpec, *, plan_id: str | None, idempotency_key: str | None, submitted_by: str) -> JobView:
        """See ControlService."""
        problem = jobs.beyond_us(spec)
        if problem is not None:
            raise SpecError([problem])
        digest = spec_digest(spec)
        key = f"{spec.project}/{idempotency_key}" if idempotency_key else ""
        for _ in range(_MAX_CONFLICTS):
            known = self._known_submission(key, digest)
            if known is not None:
                return self.job(known)
            now = self._ports.clock.now()
            submission = jobs.Submission(
                job_id=new_job_id(now, self._ports.random_bytes(5)),
                spec=spec,
                spec_digest=digest,
                submitted_by=submitted_by,
                idempotency_id=key,
            )
            snapshot = self._mirror.settle()
            grant = self._grant(snapshot, submission, plan_id) if plan_id is not None else None
            self._ports.crash_point("submit.before-commit")
            result = self._mirror.commit(jobs.submit(snapshot, submission, now=now, grant=grant))
            self._ports.crash_point("submit.committed")
            if isinstance(result, Applied):
                self._ports.telemetry.count("submits")
                self._ports.clock.wake()
                return self.job(submission.job_id)
        raise StoreError(f"a submit lost against other writers {_MAX_CONFLICTS} times")

    def _known_submission(self, key: str, digest: str) -> JobId | None:
        record = self._ports.store.get(RecordKind.IDEMPOTENCY, key) if key else None
        if record is None:
            return None
        entry = decode_row(RecordKind.IDEMPOTENCY, record.value)
        assert isinstance(entry, IdempotencyEntry)
        if entry.body_digest != digest:
            raise ConflictError(f"idempotency key {key.split('/', 1)[1]!r} was used for another job, {entry.job_id}")
        if self._mirror.snapshot.job(entry.job_id) is None:
            self._mirror.reload()
        return entry.job_id

    def _grant(self, snapshot: Snapshot, submission: jobs.Submission, plan_id: str) -> jobs.Grant:
        stored, now = self._stored(plan_id), self._ports.clock.now()
        if stored.unit_id is None or stored.spec_digest != submission.spec_digest:
            raise ConflictError(f"plan {plan_id} was made for another job")
        found = stored.plan.assignment(stored.unit_id)
        if found is None:
            raise ConflictError(f"plan {plan_id} does not place the job")
        assignment: Assignment = replace(found, unit_id=unit_id(submission.job_id, 0))
        refused = recheck.recheck(snapshot, self._reconciler.inventory(), plan=stored.plan, assignment=assignment, now=now)
        refused = refused or recheck.reserved_for_another(snapshot, self._planning.plan, assignment, now=now)
        if refused is not None:
            raise ConflictError(f"plan {plan_id} is out of date: {refused}")
        ref = AttemptRef(unit_id=assignment.unit_id, number=1)
        digest = credential_digest(credential_for(self._settings.credential_key, ref))
        return jobs.Grant(assignment=assignment, plan_id=stored.plan.id, credential_digest=digest)

    def cancel(self, job: str) -> JobView:
        """See ControlService."""
        return self._wish(job, lambda snapshot, found: jobs.cancel(snapshot, found, now=self._ports.clock.now()), "cancel")

    def suspend(self, job: str) -> JobView:
        """See ControlService."""
        return self._wish(job, lambda snapshot, found: jobs.suspend(snapshot, found, now=self._ports.clock.now()), "suspend")

    def resume(self, job: str) -> JobView:
        """See ControlService."""
        return self._wish(job, lambda snapshot, found: jobs.resume(snapshot, found, now=self._ports.clock.now()), "resume")

    def vouch_dead(self, attempt: AttemptRef, *, operator: str) -> None:
        """See ControlService."""
        if not operator:
            raise ConflictError("a death needs the name of the operator who vouches for it")
        self._wish(
            attempt.job_id,
            lambda snapshot, _: jobs.vouch_dead(snapshot, attempt, operator=operator, now=self._ports.clock.now()),
            "vouch",
        )

    def _wish(self, job: str, ask: Callable[[Snapshot, Job], Write | jobs.Refusal | None], label: str) -> JobView:
        for _ in range(_MAX_CONFLICTS):
            snapshot = self._mirror.settle()
            found = find_job(snapshot, job)
            answer = ask(snapshot, found)
            if answer is None:
                return self.job(found.id)
            if isinstance(answer, jobs.Refusal):
                raise ConflictError(str(answer))
            self._ports.crash_point(f"{label}.before-commit")
            result = self._mirror.commit(answer)
            self._ports.crash_point(f"{label}.committed")
            if isinstance(result, Applied):
                self._ports.clock.wake()
                return self.job(found.id)
        raise StoreError(f"the {label} of {job} lost against other writers {_MAX_CONFLICTS} times")

    # ------------------------------------------------------------------------------------------------------------ views

    def _notes(self) -> views.Notes:
        try:
            inventory = self._reconciler.inventory()
        except Exception as error:
            _LOG.warning("no inventory for a view: %s", error)
            inventory = None
        return views.Notes(
            now=self._ports.clock.now(),
            plan=self._planning.plan,
            inventory=inventory,
            progress=self._live.progress,
            candidate=self._plans.candidate,
        )

    def jobs(self, *, states: Sequence[str] = (), limit: int = 100, after: str = "") -> Sequence[JobView]:
        """See ControlService. ``after`` is the id of the last job of the page before."""
        snapshot, notes = self._mirror.settle(), self._notes()
        found: list[JobView] = []
        for job in sorted(snapshot.jobs(), key=lambda job: job.id, reverse=True):
            if len(found) >= limit:
                break
            if after and job.id >= after:
                continue
            if not states or views.state_of(snapshot, job).value in states:
                found.append(views.job_view(snapshot, job, notes))
        return tuple(found)

    def job(self, job: str) -> JobView:
        """See ControlService."""
        snapshot = self._mirror.settle()
        return views.job_view(snapshot, find_job(snapshot, job), self._notes())

    def explain(self, job: str) -> Explanation:
        """See ControlService."""
        snapshot = self._mirror.settle()
        return views.explain(snapshot, find_job(snapshot, job), self._notes())

    def events(self, *, after: int, job: str | None = None, limit: int = 1000) -> Sequence[EventView]:
        """See ControlService."""
        wanted = find_job(self._mirror.settle(), job).id if job is not None else None
        found: list[EventView] = []
        while len(found) < limit:
            page = self._ports.store.events_after(after, limit=1000)
            if not page:
                break
            after = page[-1].number
            found.extend(views.event_view(event) for event in page if wanted is None or event.draft.job_id == wanted)
        return tuple(found[:limit])

    def wait_events(self, *, after: int, timeout_s: float) -> bool:
        """See ControlService."""
        with self._news:
            if self._mirror.snapshot.last_event > after:
                return True
            known = self._num_news
            return self._news.wait_for(lambda: self._num_news != known or self._stopping.is_set(), timeout=timeout_s)

    def log(self, job: str, *, attempt: int | None, rank: int, offset: int, limit: int) -> LogChunk:
        """See ControlService."""
        ref = self._attempt_of(job, attempt)
        if ref is None:
            return LogChunk(data=b"", next_offset=offset, complete=False)
        found = self._mirror.snapshot.attempt(ref)
        ended = found is None or found.released_at is not None
        chunk = self._ports.logs.read(ref, rank, offset=offset, limit=limit)
        return replace(chunk, complete=ended and len(chunk.data) < limit)

    def log_ranks(self, job: str, *, attempt: int | None) -> Sequence[int]:
        """See ControlService."""
        ref = self._attempt_of(job, attempt)
        return () if ref is None else self._ports.logs.ranks(ref)

    def _attempt_of(self, job: str, number: int | None) -> AttemptRef | None:
        snapshot = self._mirror.settle()
        unit = views.unit_of(snapshot, find_job(snapshot, job))
        if number is not None and not 1 <= number <= unit.attempt_number:
            raise NotFoundError(f"job {unit.job_id} has {unit.attempt_number} attempts, found {number}")
        chosen = number or unit.attempt_number
        return AttemptRef(unit_id=unit.id, number=chosen) if chosen else None

    # --------------------------------------------------------------------------------------------------- the whole thing

    def inventory(self) -> Inventory:
        """See ControlService."""
        return self._reconciler.refresh_inventory()

    def probes(self) -> Sequence[ProbeReport]:
        """See ControlService."""
        return self._ports.probes.reports()

    def put_probe(self, report: ProbeReport) -> None:
        """See ControlService."""
        self._ports.probes.put(report)
        self._planning.forget_plan()
        self._ports.clock.wake()

    def status(self) -> ServerStatus:
        """See ControlService."""
        snapshot, inventory = self._mirror.settle(), self._notes().inventory
        devices = [d for pool in inventory.pools for node in pool.nodes for d in node.devices] if inventory else []
        return ServerStatus(
            version=self._settings.version,
            pid=self._settings.pid,
            started_at=self._started_at,
            home=self._settings.home,
            store=self._settings.store_name,
            term=self._reconciler.term,
            last_event=snapshot.last_event,
            num_jobs=views.count_states(snapshot),
            num_devices=len(devices),
            num_free_devices=sum(device.state is DeviceState.FREE for device in devices),
            last_cycle_s=self._reconciler.last_cycle_s,
            warnings=self._settings.warnings + self._reconciler.troubles,
        )

    def prune_plans(self) -> int:
        """Delete plans that expired long ago and that no attempt was made from; how many."""
        snapshot, now = self._mirror.settle(), self._ports.clock.now()
        used = {attempt.plan_id for attempt in snapshot.attempts()}
        keep = timedelta(seconds=self._settings.plan_keep_s)
        num_pruned, after = 0, ""
        while page := self._ports.store.scan(RecordKind.PLAN, after=after, limit=100):
            after = page[-1].id
            for record in page:
                stored = decode_row(RecordKind.PLAN, record.value)
                assert isinstance(stored, StoredPlan)
                if stored.plan.id not in used and stored.plan.expires_at + keep < now:
                    num_pruned += self._plans.delete(record, self._mirror, now)
        return num_pruned


def spec_digest(spec: JobSpec) -> str:
    """SHA-256 of the canonical text of a job."""
    return hashlib.sha256(wire.dumps(spec).encode()).hexdigest()


def find_job(snapshot: Snapshot, name: str) -> Job:
    """The job of that id, the only one whose id begins so, or the newest of that name. Raises NotFoundError."""
    exact = snapshot.job(JobId(name))
    if exact is not None:
        return exact
    everything = list(snapshot.jobs())
    begin = [job for job in everything if name and (job.id.startswith(name) or job.id.startswith(f"job_{name}"))]
    if len(begin) == 1:
        return begin[0]
    named = [job for job in everything if job.spec.name == name]
    if named:
        return max(named, key=lambda job: job.id)
    if begin:
        raise NotFoundError(f"{name!r} is the beginning of {len(begin)} job ids: {', '.join(j.id for j in begin[:5])}")
    names = list(dict.fromkeys([job.spec.name for job in everything] + [job.id for job in everything]))
    close = difflib.get_close_matches(name, names, n=3)
    raise NotFoundError(f"no job {name!r}" + (f"; did you mean {' or '.join(close)}?" if close else ""))


def _infeasible(detail: str, change: str) -> str:
    return f"{detail}; smallest change: {change}" if change else detail


def _reasons(plan: Plan) -> list[str]:
    def line(rejection: Rejection) -> str:
        return f"{rejection.reason} ({rejection.count}): {rejection.detail}"

    ordered = sorted(plan.rejections, key=lambda rejection: -rejection.count)
    return [line(rejection) for rejection in ordered[:_MAX_REASONS]]
