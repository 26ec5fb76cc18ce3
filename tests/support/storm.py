"""A storm of ``kill -9`` over the control process, the agents and the ranks of a real training job.

Processes are found and counted from outside, in ``/proc`` alone: an attempt's by the mark in their environment, the agent and the
control process by their command lines. Nothing of the product is asked whether the product does right.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from trimtab.client import Client
from trimtab.errors import UnavailableError
from trimtab.job import JOB_ENDS, JobState
from trimtab.jobspec import JobSpec
from trimtab.orders import ENV_ATTEMPT

TRIMTAB = (sys.executable, "-m", "scheduler.entrypoints.cli.main")
CONTROL = "scheduler.entrypoints.control.main"
_POLL_S = 0.2


class Target(StrEnum):
    """What a kill hits."""

    CONTROL = "control"
    AGENT = "agent"
    RANK = "rank"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedProcess:
    """A live process of an attempt."""

    pid: int
    attempt: str
    rank: int | None


@dataclass(slots=True, kw_only=True)
class StormReport:
    """What a storm did and saw. ``most_live_attempts`` is the highest number of attempts with a live rank at one look."""

    num_kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Target, 0))
    most_live_attempts: int = 0
    num_looks: int = 0
    num_attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The finished run: loss text and sample fingerprint by step, as the attempts that are valid for each step wrote them."""

    losses: Mapping[int, str]
    samples: Mapping[int, str]
    summary: Mapping[str, float]


def start_server(home: Path) -> None:
    """Start the control process of ``home``, or find it running."""
    done = subprocess.run(
        [*TRIMTAB, "server", "start"], env=environment(home), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def stop_server(home: Path) -> None:
    """Stop the control process of ``home``."""
    subprocess.run([*TRIMTAB, "server", "stop"], env=environment(home), capture_output=True, timeout=60, check=False)


def environment(home: Path) -> dict[str, str]:
    """The environment of every process of this test."""
    return os.environ | {"TRIMTAB_HOME": str(home), "OMP_NUM_THREADS": "1"}


def client_of(home: Path) -> Client:
    """A client of that home's control process."""
    return Client(f"unix:{home / 'control.sock'}")


def marked_processes(home: Path) -> list[MarkedProcess]:
    """Live processes of attempts under ``home``, from /proc."""
    found = []
    for pid, variables in _environments():
        if variables.get("TRIMTAB_ATTEMPT_DIR", "").startswith(f"{home}/") and ENV_ATTEMPT in variables:
            rank = variables.get("RANK")
            found.append(MarkedProcess(pid=pid, attempt=variables[ENV_ATTEMPT], rank=int(rank) if rank else None))
    return found


def agent_pids(home: Path) -> list[int]:
    """Live agents under ``home``: processes that run the injected file."""
    return [pid for pid, words in _command_lines() if any(word.startswith(f"{home}/agent/") for word in words)]


def control_pids(home: Path) -> list[int]:
    """The live control process of ``home``: the one whose command line names its entry point and that folder."""
    return [pid for pid, words in _command_lines() if CONTROL in words and str(home) in words]


def lingering_processes(home: Path, *, grace_s: float = 10.0) -> list[MarkedProcess]:
    """Processes of attempts that outlive a job by more than the moment in which an agent leaves after its last word."""
    end_s = time.monotonic() + grace_s
    while (found := marked_processes(home)) and time.monotonic() < end_s:
        time.sleep(_POLL_S)
    return found


class Storm:
    """Kills at random until ``num_kills`` are done, starting the control process again after each kill of it."""

    def __init__(self, home: Path, *, seed: int, log: Callable[[str], None] = print) -> None:
        self.home = home
        self.report = StormReport()
        self._random = random.Random(seed)
        self._log = log

    def run_job(self, spec: JobSpec, *, num_kills: int, timeout_s: float) -> str:
        """Submit ``spec``, kill until the number is reached or the job ends, then let it end; the job's id."""
        start_server(self.home)
        assert len(control_pids(self.home)) == 1, "the storm cannot see the control process"
        job = client_of(self.home).submit(spec, idempotency_key=None).id
        deadline_s = time.monotonic() + timeout_s
        left = num_kills
        while not self._ended(job):
            assert time.monotonic() < deadline_s, f"job {job} did not end in {timeout_s:.0f} s"
            if left > 0:
                self._wait_a_random_while(deadline_s)
                left -= self._kill_one()
            else:
                self._look()
                time.sleep(_POLL_S)
        self.report.num_attempts += len(client_of(self.home).job(job).attempts)
        return job

    @property
    def num_kills(self) -> int:
        """Kills so far that hit a live process."""
        return sum(self.report.num_kills.values())

    def _wait_a_random_while(self, deadline_s: float) -> None:
        """Half of the kills come at any moment of a start, half a little after the first rank of the attempt lives."""
        if self._random.random() < 0.5:
            until_s = time.monotonic() + 30.0
            while not any(p.rank is not None for p in marked_processes(self.home)):
                self._look()
                if time.monotonic() > min(until_s, deadline_s):
                    break
                time.sleep(_POLL_S)
            pause_s = self._random.uniform(0.0, 9.0)
        else:
            pause_s = self._random.uniform(0.0, 4.0)
        end_s = time.monotonic() + pause_s
        while time.monotonic() < end_s:
            self._look()
            time.sleep(_POLL_S)

    def _kill_one(self) -> int:
        target = self._random.choice([Target.CONTROL, Target.AGENT, Target.RANK, Target.RANK, Target.ALL])
        pids = self._pids(target)
        killed = [pid for pid in pids if _kill(pid)]
        if killed:
            self.report.num_kills[target] += 1
            self._log(f"kill {self.num_kills}: {target} {killed}")
        if target in (Target.CONTROL, Target.ALL):
            time.sleep(self._random.uniform(0.0, 2.0))
            self._look()
            start_server(self.home)
        self._look()
        return 1 if killed else 0

    def _pids(self, target: Target) -> list[int]:
        ranks = [p.pid for p in marked_processes(self.home) if p.rank is not None]
        if target is Target.CONTROL:
            return control_pids(self.home)
        if target is Target.AGENT:
            return agent_pids(self.home)
        if target is Target.RANK:
            return [self._random.choice(ranks)] if ranks else []
        return [*control_pids(self.home), *agent_pids(self.home), *ranks]

    def _look(self) -> None:
        """Count the attempts that have a live rank now. Two readings a moment apart must agree: /proc is not read in one
        instant."""
        live = {p.attempt for p in marked_processes(self.home) if p.rank is not None}
        if len(live) > 1:
            live &= {p.attempt for p in marked_processes(self.home) if p.rank is not None}
        self.report.num_looks += 1
        self.report.most_live_attempts = max(self.report.most_live_attempts, len(live))

    def _ended(self, job: str) -> bool:
        try:
            state = client_of(self.home).job(job).state
        except UnavailableError:
            start_server(self.home)
            return False
        assert state not in (JobState.FAILED, JobState.CANCELLED), client_of(self.home).explain(job)
        return state in JOB_ENDS


def finished_curve(home: Path, job: str) -> Curve:
    """The joined curve of a finished job, from the files that its attempts left."""
    checkpoints = home / "jobs" / job / "checkpoints"
    losses: dict[int, str] = {}
    samples: dict[int, str] = {}
    for line in _lines(checkpoints / "lineage.jsonl"):
        resumed = int(line["resumed_step"])
        losses = {step: loss for step, loss in losses.items() if step <= resumed}
        samples = {step: mark for step, mark in samples.items() if step <= resumed}
        for record in _lines(Path(line["attempt_dir"]) / "losses.jsonl"):
            losses[int(record["step"])] = str(record["loss"])
            samples[int(record["step"])] = str(record["samples"])
    return Curve(losses=losses, samples=samples, summary=client_of(home).job(job).summary)


def _lines(path: Path) -> Iterator[Mapping[str, str]]:
    """JSON lines; a torn last line of a killed writer is no line."""
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(text)
        except ValueError:
            continue


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _environments() -> Iterator[tuple[int, dict[str, str]]]:
    for pid, data in _proc_files("environ"):
        pairs = (item.partition("=") for item in data.split("\0") if item)
        yield pid, {name: value for name, _, value in pairs}


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for pid, data in _proc_files("cmdline"):
        yield pid, data.split("\0")


def _proc_files(name: str) -> Iterator[tuple[int, str]]:
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            data = (Path("/proc") / entry / name).read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if data:  # a zombie has none
            yield int(entry), data.decode(errors="replace")
