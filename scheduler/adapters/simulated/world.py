"""The simulated world: agents and ranks that really run in it, moved by time alone.

The world outlives every control plane that watches it, as machines do. It knows nothing of tables; ``num_live`` counts what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from scheduler.ports import AgentHandler, Observation, Sight
from trimtab.ids import AttemptRef
from trimtab.inventory import DeviceState, Inventory
from trimtab.job import DeviceRef
from trimtab.jobspec import JobKind
from trimtab.lifecycle import FailureKind, ReleaseReason
from trimtab.orders import (
    CheckpointNote,
    ClaimRequest,
    ClaimVerdict,
    ExitNote,
    Progress,
    ReportKind,
    RunOrder,
    RunReport,
)


class AgentPhase(StrEnum):
    """Where an agent is. RANKS: its ranks run. DONE: they ended, and that is not reported yet. GONE: no process is left."""

    LAUNCHED = "launched"
    LOADING = "loading"
    RANKS = "ranks"
    DONE = "done"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How an attempt goes if nobody interferes: its ranks fail at ``fails_at_step``, or get no further than ``hangs_at_step``.

    ``figures`` are what the summary holds beside the loss.
    """

    claim_delay_s: float = 0.2
    load_s: float = 1.0
    step_s: float = 1.0
    num_steps: int = 20
    checkpoint_every_steps: int = 5
    report_every_s: float = 2.0
    stop_s: float = 0.5
    fails_at_step: int | None = None
    hangs_at_step: int | None = None
    failure: FailureKind = FailureKind.EXIT_CODE
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Agent:
    """One agent of the world and its ranks."""

    order: RunOrder
    script: Script
    phase: AgentPhase
    next_s: float
    name: str
    step: int = 0
    published_step: int = 0
    sequence: int = 0
    stop_at_s: float | None = None
    exit: ExitNote | None = None
    ready_sent: bool = False
    next_report_s: float = 0.0
    outbox: list[RunReport] = field(default_factory=list)


Calls = Callable[[], AgentHandler | None]


class World:
    """All agents. ``handler`` gives the control plane as the agents reach it now, None while nobody answers."""

    def __init__(self, inventory: Inventory, *, script_for: Callable[[RunOrder], Script], start: datetime) -> None:
        self._inventory = inventory
        self._script_for = script_for
        self._start = start
        self.agents: dict[AttemptRef, Agent] = {}
        self.forgotten: set[AttemptRef] = set()
        self.hidden: set[AttemptRef] = set()
        self.now_s = 0.0
        self.handler: Calls = lambda: None

    # --------------------------------------------------------------------------------------- what the executor reaches

    def launch(self, order: RunOrder) -> None:
        """Start an attempt's agent, once: a second call for the same attempt has no effect, also after its end."""
        if order.attempt in self.agents or order.attempt in self.forgotten:
            return
        script = self._script_for(order)
        self.agents[order.attempt] = Agent(
            order=order,
            script=script,
            phase=AgentPhase.LAUNCHED,
            next_s=self.now_s + script.claim_delay_s,
            name=f"host boot {order.attempt} {self.now_s}",
        )

    def ask_stop(self, ref: AttemptRef, *, grace_s: float) -> None:
        """Ask an attempt to stop; it ends after its own time to stop, or after the grace at the latest."""
        agent = self.agents.get(ref)
        if agent is not None and agent.stop_at_s is None and agent.phase is not AgentPhase.GONE:
            agent.stop_at_s = self.now_s + min(agent.script.stop_s, grace_s)
            agent.next_s = min(agent.next_s, agent.stop_at_s)

    def kill(self, ref: AttemptRef) -> None:
        """Everything of the attempt dies at once, without a word."""
        agent = self.agents.get(ref)
        if agent is not None:
            agent.phase = AgentPhase.GONE

    def ask_checkpoint(self, ref: AttemptRef) -> None:
        """Ask for a checkpoint now."""
        agent = self.agents.get(ref)
        if agent is not None and agent.phase is AgentPhase.RANKS:
            self._checkpoint(ref, agent)

    def forget(self, ref: AttemptRef) -> None:
        """Drop what is kept about an attempt that is gone."""
        agent = self.agents.get(ref)
        if agent is not None and agent.phase is AgentPhase.GONE:
            del self.agents[ref]
            self.forgotten.add(ref)

    def observe(self) -> tuple[Observation, ...]:
        """What can be seen from outside."""
        return tuple(self._observation(ref, agent) for ref, agent in sorted(self.agents.items()))

    def _observation(self, ref: AttemptRef, agent: Agent) -> Observation:
        at = self._at()
        if ref in self.hidden:
            return Observation(attempt=ref, sight=Sight.UNSEEN, at=at, detail="its node does not answer")
        last = None
        if agent.exit is not None:
            last = RunReport(attempt=ref, sequence=agent.sequence, kind=ReportKind.EXITED, at=at, exit=agent.exit)
        sight = Sight.DEAD if agent.phase is AgentPhase.GONE else Sight.ALIVE
        return Observation(attempt=ref, sight=sight, at=at, last_report=last)

    def inventory(self) -> Inventory:
        """What there is."""
        return self._inventory

    def take_device(self, ref: DeviceRef, state: DeviceState) -> None:
        """Somebody else takes a device, or gives it back."""
        self._inventory = with_device_state(self._inventory, ref, state)

    # ------------------------------------------------------------------------------------------------- what really runs

    def running(self) -> Mapping[AttemptRef, Agent]:
        """Attempts with ranks that run now."""
        return {ref: a for ref, a in self.agents.items() if a.phase in (AgentPhase.LOADING, AgentPhase.RANKS)}

    # ------------------------------------------------------------------------------------------------------------- time

    def advance(self, to_s: float) -> None:
        """Let every agent do what is due until then, in order of time."""
        while True:
            due = [(agent.next_s, ref) for ref, agent in self.agents.items() if agent.phase is not AgentPhase.GONE]
            due = [entry for entry in due if entry[0] <= to_s]
            if not due:
                break
            when, ref = min(due)
            self.now_s = max(self.now_s, when)
            self._act(ref, self.agents[ref])
        self.now_s = max(self.now_s, to_s)

    def _at(self) -> datetime:
        return self._start + timedelta(seconds=self.now_s)

    def _act(self, ref: AttemptRef, agent: Agent) -> None:
        agent.next_s = self.now_s + 1.0
        if agent.phase is AgentPhase.LAUNCHED:
            self._claim(ref, agent)
        elif agent.phase is AgentPhase.LOADING:
            agent.phase = AgentPhase.RANKS
            agent.next_s = self.now_s + agent.script.step_s
            self._say(ref, agent, ReportKind.READY)
        elif agent.phase is AgentPhase.RANKS:
            self._run(ref, agent)
        elif agent.phase is AgentPhase.DONE and self._flush(ref, agent):
            agent.phase = AgentPhase.GONE

    def _claim(self, ref: AttemptRef, agent: Agent) -> None:
        handler = self.handler()
        if agent.stop_at_s is not None and agent.stop_at_s <= self.now_s:
            agent.phase = AgentPhase.GONE
            return
        if handler is None:
            return
        try:
            reply = handler.claim(ClaimRequest(attempt=ref, agent=agent.name), agent.order.credential)
        except ConnectionError:
            return
        if reply.verdict is ClaimVerdict.GRANTED:
            agent.phase = AgentPhase.LOADING
            agent.next_s = self.now_s + agent.script.load_s
            resumed = agent.order.resume_from
            agent.step = agent.published_step = int(resumed.rsplit("-", 1)[1]) if resumed is not None else 0
        else:
            agent.phase = AgentPhase.GONE

    def _run(self, ref: AttemptRef, agent: Agent) -> None:
        script = agent.script
        agent.next_s = self.now_s + script.step_s
        if agent.stop_at_s is not None and agent.stop_at_s > self.now_s:
            agent.next_s = min(agent.next_s, agent.stop_at_s)
        if agent.stop_at_s is not None and agent.stop_at_s <= self.now_s:
            self._checkpoint(ref, agent)
            self._end(ref, agent, ExitNote(reason=ReleaseReason.STOPPED, detail="stopped as asked"))
            return
        if script.hangs_at_step is None or agent.step < script.hangs_at_step:
            agent.step += 1
        if script.fails_at_step is not None and agent.step >= script.fails_at_step:
            note = ExitNote(reason=ReleaseReason.FAILED, failure=script.failure, rank=0, exit_code=1, detail="as its script says")
            self._end(ref, agent, note)
            return
        if agent.order.spec.kind is JobKind.TRAIN and agent.step - agent.published_step >= script.checkpoint_every_steps:
            self._checkpoint(ref, agent)
        if agent.step >= script.num_steps:
            self._say(ref, agent, ReportKind.SUMMARY, summary={"loss": 1.0 / max(1, agent.step), **script.figures})
            self._end(ref, agent, ExitNote(reason=ReleaseReason.COMPLETED))
        elif self.now_s >= agent.next_report_s:
            agent.next_report_s = self.now_s + script.report_every_s
            kind = ReportKind.PROGRESS if agent.order.spec.kind is JobKind.TRAIN else ReportKind.HEARTBEAT
            self._say(ref, agent, kind)

    def _end(self, ref: AttemptRef, agent: Agent, note: ExitNote) -> None:
        agent.exit, agent.phase, agent.next_s = note, AgentPhase.DONE, self.now_s
        self._say(ref, agent, ReportKind.EXITED, exit_note=note)

    def _checkpoint(self, ref: AttemptRef, agent: Agent) -> None:
        """Publish before pruning: only an accepted checkpoint counts."""
        handler = self.handler()
        if handler is None or agent.step <= agent.published_step:
            return
        path = f"{agent.order.checkpoint_dir}/a{ref.number}/step-{agent.step}"
        note = CheckpointNote(path=path, step=agent.step, manifest_sha256="0" * 64, num_bytes=1, save_s=0.1)
        try:
            if handler.publish_checkpoint(ref, note, agent.order.credential):
                agent.published_step = agent.step
            else:
                agent.phase = AgentPhase.GONE
        except ConnectionError:
            return

    def _say(
        self,
        ref: AttemptRef,
        agent: Agent,
        kind: ReportKind,
        *,
        summary: Mapping[str, float] | None = None,
        exit_note: ExitNote | None = None,
    ) -> None:
        agent.sequence += 1
        progress = None
        if kind is ReportKind.PROGRESS:
            progress = Progress(
                step=agent.step,
                num_steps=agent.script.num_steps,
                loss=1.0 / max(1, agent.step),
                tokens_per_s=1.0 / agent.script.step_s,
                step_s=agent.script.step_s,
                num_samples=agent.step,
            )
        agent.outbox.append(
            RunReport(
                attempt=ref,
                sequence=agent.sequence,
                kind=kind,
                at=self._at(),
                progress=progress,
                exit=exit_note,
                summary=dict(summary or {}),
            )
        )
        self._flush(ref, agent)

    def _flush(self, ref: AttemptRef, agent: Agent) -> bool:
        """Send what waits, in order; what is not acknowledged stays and is sent again."""
        while agent.outbox:
            handler = self.handler()
            if handler is None:
                return False
            try:
                reply = handler.report(agent.outbox[0], agent.order.credential)
            except ConnectionError:
                return False
            agent.outbox.pop(0)
            if reply.fenced:
                agent.outbox.clear()
                if agent.phase is not AgentPhase.DONE:
                    agent.phase = AgentPhase.GONE
                return True
            if reply.stop:
                self.ask_stop(ref, grace_s=reply.grace_s)
        return True


def with_device_state(inventory: Inventory, ref: DeviceRef, state: DeviceState) -> Inventory:
    """The inventory with one device in another state."""
    pools = []
    for pool in inventory.pools:
        nodes = []
        for node in pool.nodes:
            devices = tuple(
                replace(device, state=state)
                if (pool.id, node.id, device.index) == (ref.pool_id, ref.node_id, ref.index)
                else device
                for device in node.devices
            )
            nodes.append(replace(node, devices=devices))
        pools.append(replace(pool, nodes=tuple(nodes)))
    return replace(inventory, pools=tuple(pools))
