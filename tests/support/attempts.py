"""Attempts with real agents and real ranks: a state folder, a desk that notes what agents say, processes counted from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from scheduler.adapters.local.artifacts import FolderArtifacts
from scheduler.adapters.local.executor import AgentOptions, LocalExecutor
from scheduler.adapters.local.gateway import UnixGateway
from scheduler.adapters.local.machine import LocalMachine
from scheduler.config import Home
from scheduler.ports import Observation, Sight
from trimtab.ids import AttemptRef, NodeId, PoolId, UnitId
from trimtab.inventory import DeviceKind
from trimtab.job import DeviceRef
from trimtab.jobspec import CommandSpec, JobKind, JobSpec
from trimtab.model import ModelSpec
from trimtab.orders import (
    ENV_ATTEMPT,
    ENV_ATTEMPT_DIR,
    CheckpointNote,
    ClaimReply,
    ClaimRequest,
    ClaimVerdict,
    ExitNote,
    Progress,
    RankSlot,
    ReportKind,
    ReportReply,
    RunOrder,
    RunReport,
)
from trimtab.spec.presets import gpt2
from trimtab.workload import DataKind, DataSpec, TrainWorkload

CREDENTIAL = "the secret of this attempt"
PATIENCE_S = 30.0
FAST = AgentOptions(claim_for_s=20.0, beat_s=0.1, tell_for_s=1.0, kill_margin_s=0.5)
MODEL: ModelSpec = gpt2("tiny", layers=1, hidden=8, heads=1)


def wait_for(what: Callable[[], object], message: str = "") -> None:
    """Until ``what`` is true, within a patience that only a broken run uses up."""
    end_s = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end_s, f"did not come: {message or what}"
        time.sleep(0.01)


@dataclass
class Desk:
    """An AgentHandler that says what it is told to say and notes what it hears; a repeated report has no second effect."""

    verdict: ClaimVerdict = ClaimVerdict.GRANTED
    reply: ReportReply = field(default_factory=ReportReply)
    accepts: bool = True
    claims: list[ClaimRequest] = field(default_factory=list)
    calls: list[RunReport] = field(default_factory=list)
    reports: list[RunReport] = field(default_factory=list)
    published: list[CheckpointNote] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def claim(self, request: ClaimRequest, credential: str) -> ClaimReply:
        """Note and answer."""
        assert credential == CREDENTIAL
        with self.lock:
            self.claims.append(request)
            return ClaimReply(verdict=self.verdict, detail="as the test says")

    def report(self, report: RunReport, credential: str) -> ReportReply:
        """Note and answer."""
        assert credential == CREDENTIAL
        with self.lock:
            self.calls.append(report)
            if not self.reports or report.sequence > self.reports[-1].sequence:
                self.reports.append(report)
            return self.reply

    def publish_checkpoint(self, attempt: AttemptRef, note: CheckpointNote, credential: str) -> bool:
        """Note and answer."""
        assert credential == CREDENTIAL
        with self.lock:
            self.published.append(note)
            return self.accepts

    def kinds(self) -> list[ReportKind]:
        """Kinds of the reports in order, heartbeats left out."""
        return [report.kind for report in self.reports if report.kind is not ReportKind.HEARTBEAT]

    def exit(self) -> ExitNote:
        """How the attempt ended by its own word."""
        found = [report.exit for report in self.reports if report.exit is not None]
        assert len(found) == 1, found
        return found[0]

    def progress(self) -> list[Progress]:
        """All progress that was heard."""
        return [report.progress for report in self.reports if report.progress is not None]


class Place:
    """One state folder with gateway and executor, and everything needed to see what runs."""

    def __init__(self, path: Path, options: AgentOptions = FAST) -> None:
        self.home = Home(path=path / "home")
        self.home.create()
        self.desk = Desk()
        self.machine = LocalMachine(cpu_devices=2)
        self.artifacts = FolderArtifacts(self.home)
        self.options = options
        self.executor = self.restarted()
        self.gateway = UnixGateway(self.home.agents_socket)
        self.gateway.serve(self.desk)
        self.scratch = path / "scratch"
        self.scratch.mkdir()

    def restarted(self, options: AgentOptions | None = None) -> LocalExecutor:
        """An executor that knows nothing but what is in the folder, as after a restart."""
        return LocalExecutor(self.home, self.machine, options=options or self.options)

    def gateway_away(self) -> None:
        """As if the control process were gone."""
        self.gateway.close()

    def gateway_back(self) -> None:
        """It answers again."""
        self.gateway = UnixGateway(self.home.agents_socket)
        self.gateway.serve(self.desk)

    def attempt(self, number: int = 1) -> AttemptRef:
        """The attempt of that number of the only unit."""
        return AttemptRef(unit_id=UnitId("job_test.u0"), number=number)

    def order(
        self,
        *argv: str,
        num_ranks: int = 1,
        number: int = 1,
        train: bool = False,
        environment: Mapping[str, str] | None = None,
        grace_s: float = 5.0,
        stall_after_s: float = 600.0,
        resume_from: str | None = None,
    ) -> RunOrder:
        """An order for that program on CPU devices."""
        ref = self.attempt(number)
        spec = JobSpec(name="test", kind=JobKind.COMMAND, command=CommandSpec(argv=argv, working_dir=str(self.scratch)))
        if train:
            workload = TrainWorkload(num_steps=10, sequence_length=8, global_batch=1, data=DataSpec(kind=DataKind.STDLIB))
            spec = JobSpec(name="test", kind=JobKind.TRAIN, model=MODEL, train=workload)
        slots = tuple(
            RankSlot(
                rank=rank,
                local_rank=rank,
                device=DeviceRef(pool_id=PoolId("local-cpu"), node_id=NodeId("here"), index=rank),
                kind=DeviceKind.CPU,
                cores=(rank % (os.cpu_count() or 1),),
            )
            for rank in range(num_ranks)
        )
        return RunOrder(
            attempt=ref,
            job_id=ref.job_id,
            spec=spec,
            strategy=None,
            argv=argv,
            working_dir=str(self.scratch),
            environment={"PATH": os.environ["PATH"], **(environment or {})},
            slots=slots,
            attempt_dir=self.artifacts.attempt_dir(ref),
            checkpoint_dir=self.artifacts.checkpoint_dir(ref.job_id),
            address=self.gateway.address,
            credential=CREDENTIAL,
            grace_s=grace_s,
            stall_after_s=stall_after_s,
            resume_from=resume_from,
        )

    def python(self, code: str) -> tuple[str, ...]:
        """A rank's program in Python, without site-packages: it starts at once, and only the injected kernel can be imported."""
        path = self.scratch / f"program-{abs(hash(code))}.py"
        path.write_text(code)
        return (sys.executable, "-S", str(path))

    def folder(self, number: int = 1) -> Path:
        """The attempt's folder."""
        return Path(self.artifacts.attempt_dir(self.attempt(number)))

    def log(self, rank: int = 0, number: int = 1) -> str:
        """A rank's log as it is now."""
        path = self.folder(number) / "logs" / (f"rank-{rank}.log" if rank >= 0 else "agent.log")
        return path.read_text(errors="replace") if path.exists() else ""

    def see(self, number: int = 1, executor: LocalExecutor | None = None) -> Observation:
        """What the executor says of the attempt now."""
        wanted = self.attempt(number)
        return next(seen for seen in (executor or self.executor).observe() if seen.attempt == wanted)

    def until_dead(self, number: int = 1, executor: LocalExecutor | None = None) -> Observation:
        """Wait for the proof of death; at that moment no process may be left, by a count that shares no code with the proof."""
        seen: list[Observation] = []

        def dead() -> bool:
            seen.append(self.see(number, executor))
            return seen[-1].sight is Sight.DEAD

        wait_for(dead, f"death of attempt {number}; log of the agent: {self.log(-1, number)}")
        assert self.processes(number) == []
        return seen[-1]

    def processes(self, number: int = 1) -> list[psutil.Process]:
        """Every living process that carries the attempt's mark, counted with psutil."""
        marks = {ENV_ATTEMPT: str(self.attempt(number)), ENV_ATTEMPT_DIR: str(self.folder(number))}
        out = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and marks.items() <= process.environ().items():
                    out.append(process)
        return out

    def agent(self, number: int = 1) -> psutil.Process:
        """The agent's process."""
        found: list[psutil.Process] = []

        def alone() -> bool:
            found.clear()
            for process in self.processes(number):
                with contextlib.suppress(psutil.Error):
                    if any(part.endswith(".pyz") for part in process.cmdline()):
                        found.append(process)
            return len(found) == 1  # between its fork and its exec a rank has the command line of the agent too

        wait_for(alone)
        return found[0]

    def close(self) -> None:
        """End everything, whatever the test left."""
        self.gateway.close()
        for folder in self.home.jobs.glob("*/a*"):
            for process in self.processes(int(folder.name[1:])):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)


@contextlib.contextmanager
def place_at(path: Path, options: AgentOptions = FAST) -> Iterator[Place]:
    """A Place that leaves no process behind."""
    place = Place(path, options)
    try:
        yield place
    finally:
        place.close()
