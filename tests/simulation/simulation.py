"""One seeded run of the real control plane against the simulated world, with faults, and what must hold after every step.

Nothing of the control plane is replaced: its loops, core and store are those of production. The clock is virtual; who really runs
is counted in the world, never read from a table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from scheduler.adapters.measurements.memory import MemoryMeasurements
from scheduler.adapters.simulated.world import AgentPhase, Script, World
from scheduler.adapters.store.memory import MemoryStore
from scheduler.adapters.telemetry.memory import MemoryTelemetry
from scheduler.adapters.time.clocks import VirtualClock
from scheduler.core.invariants import Replay, check
from scheduler.core.policy import Policy
from scheduler.core.rows import LedgerEntry, decode_row
from scheduler.core.snapshot import SNAPSHOT_KINDS, Row, Snapshot
from scheduler.ports import AgentHandler, Record, RecordKind
from scheduler.service.control import ControlPlane
from scheduler.service.wiring import ControlPorts, ControlSettings
from tests.simulation.faults import (
    Call,
    Dice,
    Fault,
    FaultyExecutor,
    FaultyLine,
    FaultyPlanner,
    FaultyStore,
    SimulatedCrash,
)
from tests.support import kit
from trimtab.errors import ConflictError, StoreError, TrimtabError
from trimtab.ids import AttemptRef, JobId
from trimtab.inventory import DeviceState
from trimtab.job import DeviceRef
from trimtab.jobspec import JobKind, JobSpec, Limits, RetryPolicy
from trimtab.lifecycle import AttemptState, Intent, UnitState
from trimtab.orders import RunOrder

NUM_DEVICES = 6
STEP_S = 2.0
STORM_S = 240.0
QUIET_LIMIT_S = 6000.0
MAX_JOBS = 7


class Broken(AssertionError):
    """Something that must always hold did not. The message carries the seed and the moment."""


@dataclass(slots=True)
class Promise:
    """What the control plane has told somebody, and must keep."""

    jobs: set[JobId] = field(default_factory=set)
    keys: dict[str, JobId] = field(default_factory=dict)
    cancelled: set[JobId] = field(default_factory=set)
    checkpoint_steps: dict[JobId, int] = field(default_factory=dict)


class Simulation:
    """``run`` plays the storm, then the calm, and raises Broken where a promise or an invariant breaks."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dice = Dice(seed)
        self.rng = self.dice.rng
        self.clock = VirtualClock(kit.START)
        self.world = World(kit.inventory(NUM_DEVICES), script_for=self._script, start=kit.START)
        self.world.handler = self._line
        self.truth = MemoryStore(now=self.clock.monotonic)
        self.executor = FaultyExecutor(self.world, self.dice)
        self.telemetry = MemoryTelemetry()
        self.random_bytes = kit.counter_bytes(seed)
        self.num_controls = 0
        self.control: ControlPlane | None = None
        self.zombies: list[ControlPlane] = []
        self.back_at_s = 0.0
        self.cut: set[AttemptRef] = set()
        self.old_calls: list[Call] = []
        self.until_s: list[tuple[float, Callable[[], None]]] = []
        self.promise = Promise()
        self._read: dict[tuple[RecordKind, str], tuple[Record, Row]] = {}
        self.replay = Replay()
        self.began: dict[AttemptRef, float] = {}
        self.trace = hashlib.sha256()
        self.crash_names: set[str] = set()
        self.num_plans = 0
        self.measurements = MemoryMeasurements()
        self.policy = Policy(stall_after_s=60.0, claim_within_s=90.0)

    # ------------------------------------------------------------------------------------------------------- the pieces

    def _script(self, order: RunOrder) -> Script:
        script = Script(
            claim_delay_s=self.rng.uniform(0.1, 3.0),
            load_s=self.rng.uniform(0.5, 6.0),
            step_s=self.rng.uniform(0.5, 2.0),
            num_steps=self.rng.randint(5, 40),
            figures={"timed_steps": 5.0, "step_median_s": 1.5},
        )
        if self.dice.strikes(Fault.SLOW_CLAIM, 2.0):
            script = replace(script, claim_delay_s=self.rng.uniform(20, 300))
        if self.dice.strikes(Fault.RANK_FAILURE, 2.0):
            script = replace(script, fails_at_step=self.rng.randint(1, 30))
        if order.spec.kind is JobKind.TRAIN and self.dice.strikes(Fault.HANG, 2.0):
            script = replace(script, hangs_at_step=self.rng.randint(1, 10))
        return script

    def _line(self) -> AgentHandler | None:
        if self.control is None:
            return None
        return FaultyLine(self.control, self.dice, cut=self.cut, old_calls=self.old_calls, on_crash=self._die)

    def _die(self, _: SimulatedCrash) -> None:
        self.control = None
        self.back_at_s = self.clock.monotonic() + self.rng.choice([0.0, 1.0, 5.0, 40.0])

    def _crash_point(self, name: str) -> None:
        self.crash_names.add(name)
        if self.dice.strikes(Fault.CRASH, 0.2):
            raise SimulatedCrash(name)

    def _start_control(self) -> None:
        self.num_controls += 1
        ports = ControlPorts(
            store=FaultyStore(self.truth, self.dice),
            executor=self.executor,
            planner=FaultyPlanner(self._plan, self.dice, self.clock.monotonic),
            prices=kit.StaticPrices(),
            logs=kit.MemoryLogs(),
            artifacts=kit.MemoryArtifacts(),
            probes=kit.MemoryProbes(),
            measurements=self.measurements,
            clock=self.clock,
            telemetry=self.telemetry,
            random_bytes=self.random_bytes,
            crash_point=self._crash_point,
        )
        settings = ControlSettings(
            home="/sim",
            address="sim:",
            holder=f"control-{self.num_controls}",
            credential_key=kit.KEY,
            runtime_python="/usr/bin/python3",
            policy=self.policy,
            plan_expires_after_s=self.rng.choice([30.0, 300.0]),
        )
        self.control = ControlPlane(ports, settings)

    def _plan(self, problem: kit.PlanningProblem) -> kit.Plan:
        self.num_plans += 1
        return kit.first_fit(problem, plan_id=f"plan_{self.num_plans}")

    # --------------------------------------------------------------------------------------------------------- the run

    def run(self) -> str:
        """Play it. Returns a digest of everything that happened, the same for the same seed."""
        self._start_control()
        while self.clock.monotonic() < STORM_S:
            self._people()
            self._weather()
            self._step()
        self._calm()
        limit_s = self.clock.monotonic() + QUIET_LIMIT_S
        while not self._all_ended():
            if self.clock.monotonic() > limit_s:
                raise self._broken(f"jobs never end: {self._open_jobs()}")
            self._step(step_s=8.0)
        for _ in range(60):
            if not self.world.agents:
                break
            self._step(step_s=8.0)
        self._check_quiet()
        return self.trace.hexdigest()

    def _step(self, step_s: float = STEP_S) -> None:
        if self.control is None and self.clock.monotonic() >= self.back_at_s:
            self._start_control()
        for zombie in self.zombies:
            self._cycle(zombie)
        self._cycle(self.control)
        self.clock.advance(step_s)
        self.executor.advance(self.clock.monotonic())
        self.world.advance(self.clock.monotonic())
        due = [act for when, act in self.until_s if when <= self.clock.monotonic()]
        self.until_s = [(when, act) for when, act in self.until_s if when > self.clock.monotonic()]
        for act in due:
            act()
        self._check()

    def _cycle(self, control: ControlPlane | None) -> None:
        if control is None:
            return
        try:
            control.cycle()
        except SimulatedCrash as crash:
            if control is self.control:
                self._die(crash)
            else:
                self.zombies.remove(control)

    def _calm(self) -> None:
        self.dice.calm = True
        self.zombies.clear()
        for _, act in self.until_s:
            act()
        self.until_s = []
        if self.control is None:
            self._start_control()
        for job in self._snapshot().jobs():
            if job.intent is Intent.SUSPEND and job.ended_at is None:
                self._ask(lambda control, job_id=job.id: control.resume(job_id))

    # ------------------------------------------------------------------------------------------------------------ people

    def _ask(self, act: Callable[[ControlPlane], object]) -> object:
        """One call by a person; None where it failed (refused, the store does not answer, the control process died in it)."""
        if self.control is None:
            return None
        try:
            return act(self.control)
        except SimulatedCrash as crash:
            self._die(crash)
        except (ConflictError, StoreError, TrimtabError):
            pass
        return None

    def _people(self) -> None:
        if len(self.promise.jobs) < MAX_JOBS and self.rng.random() < 0.08:
            self._submit()
        jobs = sorted(self.promise.jobs)
        if not jobs:
            return
        job = self.rng.choice(jobs)
        chance = self.rng.random()
        if chance < 0.01:
            if self._ask(lambda control: control.cancel(job)) is not None:
                self.promise.cancelled.add(job)
            if self.rng.random() < 0.5:
                self._ask(lambda control: control.resume(job))
        elif chance < 0.02:
            self._ask(lambda control: control.suspend(job))
        elif chance < 0.05:
            self._ask(lambda control: control.resume(job))
        elif chance < 0.07:
            self._vouch()
        elif chance < 0.10:
            self._ask(lambda control: (control.explain(job), control.job(job), control.status()))

    def _vouch(self) -> None:
        """An operator who went and looked: only for what is really gone."""
        for attempt in self._snapshot().attempts():
            agent = self.world.agents.get(attempt.ref)
            if attempt.state is AttemptState.UNKNOWN and (agent is None or agent.phase is AgentPhase.GONE):
                self._ask(lambda control, ref=attempt.ref: control.vouch_dead(ref, operator="bob"))

    def _submit(self) -> None:
        spec = self._spec()
        key = self.rng.choice([None, f"key-{self.rng.randint(0, 3)}"])
        plan_id = None
        if self.rng.random() < 0.3:
            plan = self._ask(lambda control: control.plan(spec))
            plan_id = plan.id if isinstance(plan, kit.Plan) and plan.assignments else None
        before = len(self.truth.scan(RecordKind.JOB))
        view = self._ask(lambda control: control.submit(spec, plan_id=plan_id, idempotency_key=key, submitted_by="ann"))
        if len(self.truth.scan(RecordKind.JOB)) - before > 1:
            raise self._broken("I2: one submit made two jobs")
        if view is None:
            return
        job_id = view.id  # type: ignore[attr-defined]
        if key is not None and self.promise.keys.setdefault(key, job_id) != job_id:
            raise self._broken(f"I2: {key} gave {self.promise.keys[key]} and {job_id}")
        self.promise.jobs.add(job_id)

    def _spec(self) -> JobSpec:
        devices = self.rng.choice([1, 1, 2, 3, NUM_DEVICES])
        retry = RetryPolicy(max_failures=self.rng.choice([0, 2, 5]), max_losses=self.rng.choice([1, 5]), backoff_s=1.0)
        priority, grace_s = self.rng.choice([0, 0, 5]), self.rng.choice([1.0, 20.0])
        fields: dict[str, object] = {"retry": retry, "priority": priority, "grace_s": grace_s}
        if self.rng.random() < 0.15:
            fields["limits"] = Limits(max_cost_usd=self.rng.choice([0.01, 0.2]))
        make = self.rng.choice([kit.command_job, kit.train_job])
        return make(f"job-{self.rng.randint(0, 3)}", devices, **fields)

    # ----------------------------------------------------------------------------------------------------------- weather

    def _weather(self) -> None:
        live = [ref for ref, agent in sorted(self.world.agents.items()) if agent.phase is not AgentPhase.GONE]
        if live:
            ref = self.rng.choice(live)
            if self.dice.strikes(Fault.HIDDEN_NODE, 0.5):
                self._for_a_while(self.world.hidden, ref, self.rng.choice([5.0, 30.0, 120.0]))
            if self.dice.strikes(Fault.CUT_AGENT, 0.5):
                self._for_a_while(self.cut, ref, self.rng.choice([5.0, 30.0, 120.0]))
            if self.dice.strikes(Fault.PARTITION):
                self._for_a_while(self.world.hidden, ref, self.rng.choice([30.0, 60.0, 120.0]))
                self._for_a_while(self.cut, ref, self.rng.choice([30.0, 60.0, 120.0]))
            if self.dice.strikes(Fault.KILLED, 0.3):
                self.world.kill(ref)
        if self.dice.strikes(Fault.CLOCK_SET_BACK, 0.2):
            self.clock.set_back(self.rng.choice([3600.0, 5.0, -5.0, -60.0]))
        if self.dice.strikes(Fault.DEVICE_TAKEN, 0.3):
            self._take_device()
        if self.control is not None and self.dice.strikes(Fault.SECOND_LEADER, 0.1):
            self.zombies.append(self.control)
            self._start_control()

    def _for_a_while(self, names: set[AttemptRef], ref: AttemptRef, duration_s: float) -> None:
        names.add(ref)
        self.until_s.append((self.clock.monotonic() + duration_s, lambda: names.discard(ref)))

    def _take_device(self) -> None:
        ref = DeviceRef(pool_id=kit.POOL, node_id=kit.NODE, index=self.rng.randrange(NUM_DEVICES))
        self.world.take_device(ref, DeviceState.BUSY_ELSEWHERE)
        self.until_s.append(
            (self.clock.monotonic() + self.rng.uniform(5, 60), lambda: self.world.take_device(ref, DeviceState.FREE))
        )

    # ------------------------------------------------------------------------------------------------------ what must hold

    def _snapshot(self) -> Snapshot:
        """The table as the store has it; only rows that changed since the last look are read again."""
        stored = self.truth.snapshot(SNAPSHOT_KINDS)
        rows: dict[RecordKind, dict[str, Row]] = {kind: {} for kind in SNAPSHOT_KINDS}
        for record in stored.records:
            known = self._read.get((record.kind, record.id))
            if known is None or known[0] is not record:
                known = (record, Row(record.version, decode_row(record.kind, record.value)))
                self._read[record.kind, record.id] = known
            rows[record.kind][record.id] = known[1]
        return Snapshot(rows=rows, last_event=stored.last_event)

    def _broken(self, what: str) -> Broken:
        return Broken(f"seed {self.seed}, {self.clock.monotonic():.0f} s, event {self.replay.last_number}: {what}")

    def _check(self) -> None:
        events = self.truth.events_after(self.replay.last_number, limit=100_000)
        self._check_world(events_came=bool(events))
        if not events:
            return
        self.replay.take(events)
        snapshot = self._snapshot()
        found = [*check(snapshot), *self.replay.compare(snapshot)]
        if found:
            raise self._broken("; ".join(map(str, found)))
        for event in events:
            self.trace.update(f"{event.number} {event.draft.kind} {event.draft.at} {event.draft.attempt}\n".encode())
            if event.draft.kind == "Quarantined":
                raise self._broken(f"set aside: {event.draft.body}")
        self._check_promises(snapshot)
        if self.telemetry.counted("cycle_faults") or self.telemetry.counted("unit_faults"):
            raise self._broken("a fault inside the loop (see its log)")

    def _check_world(self, *, events_came: bool) -> None:
        """I3 to I5 and I21 by what really runs. The table is looked at when it moved or something began to run."""
        running = self.world.running()
        units: dict[str, AttemptRef] = {}
        devices: dict[str, AttemptRef] = {}
        for ref, agent in running.items():
            other = units.setdefault(ref.unit_id, ref)
            if other != ref:
                raise self._broken(f"I3: {other} and {ref} run at the same time")
            for slot in agent.order.slots:
                owner = devices.setdefault(slot.device.key(), ref)
                if owner != ref:
                    raise self._broken(f"I4: {owner} and {ref} both run on {slot.device.key()}")
            if ref not in self.began:
                events_came = True
                self.began[ref] = self.clock.monotonic()
                if ref.job_id in self.promise.cancelled:
                    raise self._broken(f"I21: {ref} began to run after its job was cancelled")
        if events_came:
            snapshot = self._snapshot()
            for ref in running:
                row = snapshot.attempt(ref)
                if row is None or row.state is AttemptState.RELEASED:
                    raise self._broken(f"I5: {ref} runs, and the table has it {row.state if row else 'not at all'}")

    def _check_promises(self, snapshot: Snapshot) -> None:
        for job_id in self.promise.jobs:
            if snapshot.job(job_id) is None:
                raise self._broken(f"I1: job {job_id} was accepted and is gone")
        for job_id in self.promise.cancelled:
            job = snapshot.job(job_id)
            if job is not None and job.intent is not Intent.CANCEL:
                raise self._broken(f"I21: {job_id} was cancelled, its intent is {job.intent}")
        for job in snapshot.jobs():
            published = snapshot.checkpoint(job.id)
            before = self.promise.checkpoint_steps.get(job.id, 0)
            if published is None:
                continue
            if published.note.step < before:
                raise self._broken(f"I18: the checkpoint of {job.id} went from step {before} to {published.note.step}")
            self.promise.checkpoint_steps[job.id] = published.note.step

    def _open_jobs(self) -> list[str]:
        snapshot = self._snapshot()
        return [f"{unit.id} {unit.state}" for unit in snapshot.units() if self._open(snapshot, unit.job_id)]

    def _open(self, snapshot: Snapshot, job_id: JobId) -> bool:
        job = snapshot.job(job_id)
        return job is not None and job.ended_at is None

    def _all_ended(self) -> bool:
        snapshot = self._snapshot()
        return all(job.ended_at is not None for job in snapshot.jobs())

    def _check_quiet(self) -> None:
        """I15 and the ledger: nothing is left running, owned, pending or unforgotten, and every attempt was paid for once."""
        snapshot = self._snapshot()
        if snapshot.owners() or list(snapshot.commands()):
            raise self._broken(f"left over: {snapshot.owners()} {list(snapshot.commands())}")
        if self.world.agents:
            raise self._broken(f"I15: the executor still has {sorted(map(str, self.world.agents))}")
        for attempt in snapshot.attempts():
            record = self.truth.get(RecordKind.LEDGER, str(attempt.ref))
            if record is None:
                raise self._broken(f"{attempt.ref} is not in the ledger")
            entry = decode_row(RecordKind.LEDGER, record.value)
            assert isinstance(entry, LedgerEntry)
            if record.version != 1 or abs(entry.cost_usd - entry.hours * attempt.price_usd_per_hour) > 1e-9:
                raise self._broken(f"the ledger of {attempt.ref} is wrong: version {record.version}, {entry}")
        for unit in snapshot.units():
            if unit.state not in (UnitState.SUCCEEDED, UnitState.FAILED, UnitState.CANCELLED):
                raise self._broken(f"{unit.id} is {unit.state}")


def run_seed(seed: int) -> Simulation:
    """One run; raises Broken."""
    simulation = Simulation(seed)
    simulation.run()
    return simulation
