"""Carries committed commands out: starts, stops, and what the executor may forget. Every act may be repeated without harm."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime

from scheduler.core import attempts
from scheduler.core.orders import Places, build_order, credential_for
from scheduler.core.rows import CommandAction, PendingCommand, StoredPlan, decode_row
from scheduler.core.snapshot import Put, Snapshot, Write
from scheduler.core.write import WriteBuilder
from scheduler.ports import Applied, EventDraft, Guard, Observation, Record, RecordKind, Sight
from scheduler.service.live import LiveBook
from scheduler.service.mirror import Mirror
from scheduler.service.wiring import ControlPorts, ControlSettings
from trimtab.errors import CheckpointError, ExecutorError
from trimtab.ids import AttemptRef, PlanId
from trimtab.inventory import Inventory
from trimtab.job import Attempt, Job
from trimtab.lifecycle import AttemptState
from trimtab.orders import CheckpointNote, RunOrder
from trimtab.plan import Candidate

_LOG = logging.getLogger("trimtab.commands")
_PLANS_KEPT = 256


class PlanShelf:
    """Plans by id from the store, the newest of them kept in memory."""

    def __init__(self, ports: ControlPorts) -> None:
        self._ports = ports
        self._kept: OrderedDict[PlanId, StoredPlan] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, plan_id: PlanId) -> StoredPlan | None:
        """A stored plan, or None."""
        with self._lock:
            if plan_id in self._kept:
                self._kept.move_to_end(plan_id)
                return self._kept[plan_id]
        record = self._ports.store.get(RecordKind.PLAN, plan_id)
        if record is None:
            return None
        stored = decode_row(RecordKind.PLAN, record.value)
        assert isinstance(stored, StoredPlan)
        with self._lock:
            self._kept[plan_id] = stored
            while len(self._kept) > _PLANS_KEPT:
                self._kept.popitem(last=False)
        return stored

    def delete(self, record: Record, mirror: Mirror, now: datetime) -> bool:
        """Delete a stored plan; False when somebody else changed it."""
        with self._lock:
            self._kept.pop(PlanId(record.id), None)
        write = Write(
            guards=(Guard(kind=RecordKind.PLAN, id=record.id, version=record.version),),
            puts=(Put(kind=RecordKind.PLAN, id=record.id, value=None),),
            events=(EventDraft(kind="PlanPruned", at=now, body={"plan": record.id}),),
        )
        return isinstance(mirror.commit(write), Applied)

    def candidate(self, attempt: Attempt) -> Candidate | None:
        """What the plan of an attempt predicted for it."""
        stored = self.get(attempt.plan_id) if attempt.plan_id is not None else None
        if stored is None:
            return None
        names = {attempt.ref.unit_id, stored.unit_id}
        return next((a.candidate for a in stored.plan.assignments if a.unit_id in names), None)


class CommandRunner:
    """The act part of the loop."""

    def __init__(
        self, ports: ControlPorts, settings: ControlSettings, *, mirror: Mirror, live: LiveBook, plans: PlanShelf
    ) -> None:
        self._ports = ports
        self._settings = settings
        self._mirror = mirror
        self._live = live
        self._plans = plans

    def candidate(self, attempt: Attempt) -> Candidate | None:
        """What the plan of an attempt predicted for it."""
        return self._plans.candidate(attempt)

    def run(self, command: PendingCommand, inventory: Inventory, *, term: int) -> None:
        """Carry one command out if it is due."""
        if command.action is CommandAction.START:
            self._start(command.attempt, inventory, term=term)
        else:
            self._stop(command)

    def _start(self, ref: AttemptRef, inventory: Inventory, *, term: int) -> None:
        clock, snapshot = self._ports.clock, self._mirror.snapshot
        attempt, job = snapshot.attempt(ref), snapshot.job(ref.job_id)
        if attempt is None or job is None or attempt.stop_requested_at is not None or attempt.state is AttemptState.RELEASED:
            return
        if not self._live.start_due(ref, clock.monotonic()):
            return
        self._ports.crash_point("start.before-act")
        try:
            self._ports.executor.start(self._order(snapshot, job, attempt, inventory))
        except (ExecutorError, CheckpointError, ValueError) as error:
            self._live.start_refused(ref, clock.monotonic(), retry_s=self._settings.policy.start_retry_s)
            self._ports.telemetry.count("start_errors")
            _LOG.warning("%s could not be started: %s", ref, error)
            return
        self._ports.crash_point("start.acted")
        self._live.seen(ref, clock.monotonic())
        write = WriteBuilder(self._mirror.snapshot, now=clock.now())
        if self._mirror.snapshot.command(ref, CommandAction.START) is not None:
            attempts.started(write, ref)
            self._mirror.commit(write.build(), term=term)
            self._ports.crash_point("start.committed")

    def _stop(self, command: PendingCommand) -> None:
        now_s = self._ports.clock.monotonic()
        if not self._live.stop_due(command.attempt, now_s, repeat_s=self._settings.policy.stop_repeat_s):
            return
        self._ports.crash_point("stop.before-act")
        self._ports.executor.stop(command.attempt, grace_s=command.grace_s)
        self._ports.crash_point("stop.acted")

    def clean_up(self, observations: Mapping[AttemptRef, Observation]) -> None:
        """Let the executor forget what is released and dead, and stop what runs although it is released.

        What the store has never heard of is left alone: it may belong to somebody else.
        """
        snapshot = self._mirror.snapshot
        for ref, observation in observations.items():
            attempt = snapshot.attempt(ref)
            if attempt is None or attempt.state is not AttemptState.RELEASED:
                continue
            if observation.sight is Sight.DEAD:
                self._ports.crash_point("forget.before-act")
                self._ports.executor.forget(ref)
                self._ports.crash_point("forget.acted")
            elif observation.sight is Sight.ALIVE and self._outstays(attempt):
                _LOG.warning("%s is released and still has processes: stopping them", ref)
                self._ports.executor.stop(ref, grace_s=0.0)

    def _outstays(self, attempt: Attempt) -> bool:
        """Has an agent had its time to end by itself after its release, and is it time to stop it (again)?"""
        clock, repeat_s = self._ports.clock, self._settings.policy.stop_repeat_s
        if attempt.released_at is not None and 0.0 <= (clock.now() - attempt.released_at).total_seconds() < repeat_s:
            return False
        return self._live.stop_due(attempt.ref, clock.monotonic(), repeat_s=repeat_s)

    def _order(self, snapshot: Snapshot, job: Job, attempt: Attempt, inventory: Inventory) -> RunOrder:
        settings, artifacts = self._settings, self._ports.artifacts
        places = Places(
            attempt_dir=artifacts.attempt_dir(attempt.ref),
            checkpoint_dir=artifacts.checkpoint_dir(job.id),
            address=settings.address,
            credential=credential_for(settings.credential_key, attempt.ref),
            runtime_python=settings.runtime_python,
            runtime_environment=settings.runtime_environment,
            policy=settings.policy,
        )
        return build_order(
            job,
            attempt,
            inventory=inventory,
            places=places,
            resume_from=self._resume_note(snapshot, job),
            candidate=self._plans.candidate(attempt),
        )

    def _resume_note(self, snapshot: Snapshot, job: Job) -> CheckpointNote | None:
        """The checkpoint to resume from. A note that fails its verification still goes into the order: the worker steps back to
        the newest older one that verifies, and says so.
        """
        published = snapshot.checkpoint(job.id)
        if published is None:
            return None
        if not self._ports.artifacts.verify(published.note):
            self._ports.telemetry.count("bad_checkpoints")
            _LOG.warning("checkpoint %s of %s does not verify any more", published.note.path, job.id)
        return published.note
