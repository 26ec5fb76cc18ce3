"""The reconcile loop: observe, reflect, decide, commit, act. One cycle never waits for the planner, and no job can stop it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from scheduler.core import attempts, decide, invariants, recheck, reflect, setaside
from scheduler.core.orders import credential_digest, credential_for
from scheduler.core.rows import StoredPlan
from scheduler.core.snapshot import Snapshot, Write
from scheduler.core.write import WriteBuilder
from scheduler.ports import Applied, Lease, Observation, RecordKind, Sight, StaleTerm
from scheduler.service.commands import CommandRunner
from scheduler.service.live import LiveBook
from scheduler.service.measuring import Measuring
from scheduler.service.mirror import Mirror
from scheduler.service.planning import PlanningLoop, with_owners
from scheduler.service.wiring import ControlPorts, ControlSettings
from trimtab.errors import ExecutorError, StoreError, TrimtabError
from trimtab.ids import AttemptRef, UnitId
from trimtab.inventory import Inventory
from trimtab.lifecycle import UNIT_ENDS, AttemptState, EndReason
from trimtab.plan import Plan

_LOG = logging.getLogger("trimtab.reconcile")
_FAULTS_BEFORE_QUARANTINE = 3


class NotLeader(Exception):
    """Somebody else leads now: this cycle ends, nothing more is written."""


class Reconciler:
    """One thread runs ``cycle``; all of its writes carry the leader's term."""

    def __init__(
        self,
        ports: ControlPorts,
        settings: ControlSettings,
        *,
        mirror: Mirror,
        live: LiveBook,
        planning: PlanningLoop,
        commands: CommandRunner,
    ) -> None:
        self._ports = ports
        self._settings = settings
        self._mirror = mirror
        self._live = live
        self._planning = planning
        self._commands = commands
        self._measuring = Measuring(ports, candidate=commands.candidate, on_news=planning.forget_plan)
        self._lease: Lease | None = None
        self._lease_until_s = 0.0
        self._inventory: Inventory | None = None
        self._inventory_next_s = 0.0
        self._looking = threading.Lock()
        self._num_faults: dict[UnitId, int] = {}
        self._checked: dict[UnitId, tuple[int, int]] = {}
        self._stored_plans: set[str] = set()
        self._troubles: dict[str, str] = {}
        self._around = decide.Circumstances(now=ports.clock.now(), policy=settings.policy)
        self.last_cycle_s = 0.0

    # ------------------------------------------------------------------------------------------------- what others ask

    @property
    def term(self) -> int:
        """The term of our leadership; 0 while somebody else leads."""
        return self._lease.term if self._lease is not None else 0

    @property
    def troubles(self) -> tuple[str, ...]:
        """Faults that the loop lives with now, one sentence each."""
        return tuple(self._troubles.values())

    def inventory(self) -> Inventory:
        """What there is, with our own attempts marked. Looks once if nobody has looked yet. Raises ExecutorError."""
        if self._inventory is None:
            self._inventory = self._look()
        return with_owners(self._inventory, self._mirror.snapshot)

    def refresh_inventory(self) -> Inventory:
        """Look again, now. Raises ExecutorError."""
        self._inventory = self._look()
        return self.inventory()

    def _look(self) -> Inventory:
        with self._looking:
            found = self._ports.executor.inventory()
            return replace(found, offers=tuple(self._ports.prices.offers(self._ports.clock.now(), found)))

    # ------------------------------------------------------------------------------------------------------- the cycle

    def cycle(self) -> None:
        """One round. Nothing that comes from a job is raised; faults of store and executor end it and show in ``troubles``."""
        began_s = self._ports.clock.monotonic()
        try:
            if self._lead():
                self._round()
                self._troubles.pop("store", None)
                self._troubles.pop("cycle", None)
        except NotLeader:
            self._lease = None
        except StoreError as error:
            self._trouble("store", f"the state store does not answer: {error}")
        except Exception as error:  # the loop outlives any fault; this one is shown until a cycle passes
            _LOG.exception("a cycle failed")
            self._ports.telemetry.count("cycle_faults")
            self._trouble("cycle", f"a cycle failed: {type(error).__name__}: {error}")
        self.last_cycle_s = self._ports.clock.monotonic() - began_s
        self._ports.telemetry.observe("reconcile_cycle_s", self.last_cycle_s)

    def _round(self) -> None:
        self._mirror.settle()
        self._set_aside_unreadable()
        observations = self._observe()
        self._ports.crash_point("cycle.observed")
        if observations is not None:
            for ref in self._refs_to_reflect():
                with self._contained(ref.unit_id):
                    self._reflect(ref, observations.get(ref))
        self._update_inventory()
        self._ask_for_the_plan()
        self._around = self._circumstances(self._planning.plan)
        for unit in list(self._mirror.snapshot.units()):
            if unit.state not in UNIT_ENDS or self._mirror.snapshot.live_attempt(unit) is not None:
                with self._contained(unit.id):
                    self._decide(unit.id)
        self._place()
        self._act(observations or {})
        self._measure()
        self._plan()
        live = {attempt.ref for attempt in self._mirror.snapshot.attempts() if attempt.state is not AttemptState.RELEASED}
        self._live.keep_only(live | set(observations or ()))

    def give_up_lease(self) -> None:
        """Leave leadership to others at once."""
        if self._lease is not None:
            self._ports.store.release_lease(self._lease)
            self._lease = None

    def _lead(self) -> bool:
        """Lead, or try to. A leader stops acting at two thirds of its lease by its own clock, before anybody else can begin."""
        clock, duration_s = self._ports.clock, self._settings.lease_s
        asked_s = clock.monotonic()
        if self._lease is not None and self._lease_until_s - asked_s > duration_s / 3.0:
            return True
        lease = self._lease
        if lease is not None and not self._ports.store.renew_lease(lease, duration_s):
            lease = None
        if lease is None:
            lease = self._ports.store.acquire_lease(self._settings.holder, duration_s)
            if lease is not None:
                self._mirror.reload()
        self._lease, self._lease_until_s = lease, asked_s + duration_s * 2.0 / 3.0
        return lease is not None

    def _observe(self) -> Mapping[AttemptRef, Observation] | None:
        try:
            seen = {observation.attempt: observation for observation in self._ports.executor.observe()}
        except ExecutorError as error:
            self._trouble("observe", f"the executor cannot say what runs: {error}")
            return None
        self._troubles.pop("observe", None)
        now_s = self._ports.clock.monotonic()
        for ref, observation in seen.items():
            if observation.sight is Sight.ALIVE:
                self._live.seen(ref, now_s)
        return seen

    def _refs_to_reflect(self) -> list[AttemptRef]:
        return [attempt.ref for attempt in self._mirror.snapshot.attempts() if attempt.state is not AttemptState.RELEASED]

    def _reflect(self, ref: AttemptRef, observation: Observation | None) -> None:
        clock, snapshot = self._ports.clock, self._mirror.snapshot
        seen = reflect.Seen(
            observation=observation,
            silent_s=self._live.silent_s(ref, clock.monotonic()),
            lost_after_s=self._settings.policy.lost_after_s,
        )
        write = reflect.reflect(snapshot, ref, seen, now=clock.now())
        if write is not None:
            self._commit("reflect", write, ref.unit_id)

    def _circumstances(self, plan: Plan | None) -> decide.Circumstances:
        clock, now_s = self._ports.clock, self._ports.clock.monotonic()
        progress_age_s = self._live.progress_age_s(now_s)
        return decide.Circumstances(
            now=clock.now(),
            policy=self._settings.policy,
            inventory=with_owners(self._inventory, self._mirror.snapshot) if self._inventory is not None else None,
            plan=plan,
            progress_age_s=progress_age_s,
            known_s=self._live.known_s(now_s),
            step_s=self._step_s(progress_age_s),
            num_start_tries=self._live.start_tries(),
        )

    def _step_s(self, progress_age_s: Mapping[AttemptRef, float]) -> Mapping[AttemptRef, float]:
        """Predicted step times of the attempts that may have stalled."""
        found: dict[AttemptRef, float] = {}
        for ref, age_s in progress_age_s.items():
            attempt = self._mirror.snapshot.attempt(ref) if age_s > self._settings.policy.stall_after_s else None
            candidate = self._commands.candidate(attempt) if attempt is not None else None
            if candidate is not None:
                found[ref] = candidate.step_s.value
        return found

    def _decide(self, unit_id: UnitId) -> None:
        snapshot = self._mirror.snapshot
        unit = snapshot.unit(unit_id)
        if unit is None:
            return
        write = decide.decide(snapshot, unit, self._around)
        if write is not None:
            self._commit("decide", write, unit_id)
        elif not (unit.state in UNIT_ENDS and unit.end_reason is EndReason.QUARANTINED):
            self._check(unit_id)

    def _place(self) -> None:
        plan = self._planning.plan
        if plan is None:
            return
        for placeable in decide.placeable(self._mirror.snapshot, self._circumstances(plan)):
            with self._contained(placeable.unit.id):
                self._assign(placeable, plan)

    def _assign(self, placeable: decide.Placeable, plan: Plan) -> None:
        snapshot, now = self._mirror.snapshot, self._ports.clock.now()
        unit = snapshot.unit(placeable.unit.id)
        if unit is None or not decide.eligible(snapshot, unit, now) or self._inventory is None:
            return
        if recheck.recheck(snapshot, self._inventory, plan=plan, assignment=placeable.assignment, now=now) is not None:
            return
        self._store_plan(plan)
        ref = AttemptRef(unit_id=unit.id, number=unit.attempt_number + 1)
        digest = credential_digest(credential_for(self._settings.credential_key, ref))
        write = WriteBuilder(snapshot, now=now)
        attempts.assign(write, unit, placeable.assignment, plan_id=plan.id, number=ref.number, credential_digest=digest)
        self._commit("assign", write.build(), unit.id)

    def _store_plan(self, plan: Plan) -> None:
        if plan.id in self._stored_plans:
            return
        self._mirror.commit(plan_write(StoredPlan(plan=plan), self._ports.clock.now()), op_id=f"plan/{plan.id}")
        self._stored_plans.add(plan.id)

    def _act(self, observations: Mapping[AttemptRef, Observation]) -> None:
        inventory = self._inventory
        if inventory is None:
            return
        for command in list(self._mirror.snapshot.commands()):
            key = f"act {command.attempt}"
            try:
                with self._contained(command.attempt.unit_id):
                    self._commands.run(command, inventory, term=self.term)
                    self._troubles.pop(key, None)
            except ExecutorError as error:
                self._trouble(key, f"{command.action} of {command.attempt} failed: {error}")
        try:
            self._commands.clean_up(observations)
        except ExecutorError as error:
            self._trouble("clean-up", f"the executor did not forget what is released: {error}")

    def _update_inventory(self) -> None:
        clock = self._ports.clock
        if self._inventory is None or clock.monotonic() >= self._inventory_next_s:
            self._inventory_next_s = clock.monotonic() + self._settings.inventory_every_s
            try:
                self._inventory = self._look()
                self._troubles.pop("inventory", None)
            except ExecutorError as error:
                self._trouble("inventory", f"the executor cannot say what there is: {error}")

    def _ask_for_the_plan(self) -> None:
        """Take a plan that is ready, so that this cycle works with it."""
        try:
            self._planning.has_answer()
        except TrimtabError as error:
            self._trouble("planning", f"planning failed: {error}")

    def _measure(self) -> None:
        if self._inventory is None:
            return
        self._measuring.step(self._mirror.snapshot, self._inventory)
        if self._measuring.trouble:
            self._trouble("measuring", self._measuring.trouble)
        else:
            self._troubles.pop("measuring", None)

    def _plan(self) -> None:
        if self._inventory is None:
            return
        try:
            self._planning.step(self._mirror.snapshot, self.inventory())
            self._troubles.pop("planning", None)
        except TrimtabError as error:
            self._trouble("planning", f"planning failed: {error}")
        if self._planning.last_failure:
            self._trouble("planning", self._planning.last_failure)

    # ------------------------------------------------------------------------------------------------ writes and faults

    def _commit(self, label: str, write: Write, unit_id: UnitId) -> None:
        """Commit with the leader's term. Lost against another writer: the next cycle decides anew."""
        self._ports.crash_point(f"{label}.before-commit")
        result = self._mirror.commit(write, term=self.term)
        self._ports.crash_point(f"{label}.committed")
        if isinstance(result, StaleTerm):
            raise NotLeader
        if not isinstance(result, Applied):
            self._ports.telemetry.count("reconcile_conflicts", step=label)
            return
        self._check(unit_id)

    def _check(self, unit_id: UnitId) -> None:
        snapshot = self._mirror.snapshot
        unit = snapshot.unit(unit_id)
        if unit is None or unit.end_reason is EndReason.QUARANTINED:
            return
        newest = snapshot.version(RecordKind.ATTEMPT, str(AttemptRef(unit_id=unit_id, number=unit.attempt_number)))
        versions = (snapshot.version(RecordKind.UNIT, unit_id), newest)
        if self._checked.get(unit_id) == versions:
            return
        broken = invariants.check_unit(snapshot, unit)
        if broken:
            self._quarantine(unit_id, "; ".join(map(str, broken)))
        elif unit.state in UNIT_ENDS:
            self._checked.pop(unit_id, None)
        else:
            self._checked[unit_id] = versions

    @contextmanager
    def _contained(self, unit_id: UnitId) -> Iterator[None]:
        """A fault in the handling of one unit stays with that unit: after some in a row it is set aside."""
        try:
            yield
        except (StoreError, ExecutorError, NotLeader):
            raise
        except Exception as error:
            self._num_faults[unit_id] = self._num_faults.get(unit_id, 0) + 1
            _LOG.exception("fault %d in a row in the handling of %s", self._num_faults[unit_id], unit_id)
            self._ports.telemetry.count("unit_faults")
            if self._num_faults[unit_id] >= _FAULTS_BEFORE_QUARANTINE:
                self._quarantine(unit_id, f"{type(error).__name__}: {error}")
        else:
            self._num_faults.pop(unit_id, None)

    def _quarantine(self, unit_id: UnitId, why: str) -> None:
        unit = self._mirror.snapshot.unit(unit_id)
        if unit is None or unit.end_reason is EndReason.QUARANTINED:
            return
        _LOG.error("%s is set aside: %s", unit_id, why)
        self._ports.telemetry.count("quarantined")
        write = setaside.set_unit_aside(self._mirror.snapshot, unit, why=why, now=self._ports.clock.now())
        if isinstance(self._mirror.commit(write, term=self.term), StaleTerm):
            raise NotLeader

    def _set_aside_unreadable(self) -> None:
        for unreadable in self._mirror.snapshot.unreadable:
            subject = setaside.row_subject(unreadable)
            self._trouble(subject, f"row {subject} cannot be read and is set aside: {unreadable.why}")
            write = setaside.set_row_aside(self._mirror.snapshot, unreadable, now=self._ports.clock.now())
            if write is not None and isinstance(self._mirror.commit(write, term=self.term), StaleTerm):
                raise NotLeader

    def _trouble(self, key: str, sentence: str) -> None:
        if self._troubles.get(key) != sentence:
            _LOG.warning("%s", sentence)
        self._troubles[key] = sentence


def plan_write(stored: StoredPlan, now: datetime) -> Write:
    """Keep a plan. Its id is a digest of its problem, so a second write of it changes nothing."""
    write = WriteBuilder(Snapshot(), now=now)
    write.put(RecordKind.PLAN, stored.plan.id, stored)
    write.event("PlanStored", body={"plan": stored.plan.id, "assignments": len(stored.plan.assignments)})
    return write.build()
