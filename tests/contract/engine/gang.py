"""Real ranks for the engine's tests: processes that meet through a file, run a trial, and wait for the next.

The processes are started once, because importing torch costs more than most trials. A trial that does not end in time, or a
rank that dies, ends all of them; the next trial starts new ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from trimtab.model import ModelSpec
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Some training steps on synthetic data. ``load_from`` and ``save_to`` are files of a whole state (model and optimizer).

    ``first_step`` numbers the data of the first step. ``mutant`` names a fault of ``faults`` that is put into the engine.
    ``unequal`` hides ever more targets from sample to sample, so that ranks have unequal counts.
    """

    model: ModelSpec
    train: TrainWorkload
    strategy: Strategy
    num_steps: int
    first_step: int = 0
    load_from: str = ""
    save_to: str = ""
    mutant: str = ""
    unequal: bool = True
    measure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What rank 0 saw, and peak tensor bytes of every rank."""

    losses: tuple[float, ...]
    norms: tuple[float, ...]
    evaluation: tuple[float, int]
    weights: dict[str, Any]
    peak_bytes: tuple[int, ...] = ()
    names: tuple[str, ...] = ()


class TrialFailed(Exception):
    """A rank raised, died, or took too long; the text says which and how."""


@dataclass(slots=True)
class Gang:
    """Up to ``num_ranks`` processes; use as a context manager, so that none is left behind."""

    num_ranks: int = 4
    timeout_s: float = 300.0
    members: list[tuple[subprocess.Popen[bytes], Connection]] = field(default_factory=list)

    def __enter__(self) -> Gang:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def run(self, trial: Trial) -> Outcome:
        """Run a trial on the first ranks. Raises TrialFailed."""
        world_size = trial.strategy.world_size
        self._start(world_size)
        with tempfile.TemporaryDirectory(prefix="trimtab-gang-") as folder:
            connections = [connection for _, connection in self.members[:world_size]]
            for rank, connection in enumerate(connections):
                connection.send((trial, rank, str(Path(folder) / "store")))
            answers = self._collect(connections)
        first = answers[0]
        assert isinstance(first, Outcome)
        peaks = tuple(outcome.peak_bytes[0] for outcome in answers)
        names = tuple(sorted({name for outcome in answers for name in outcome.names}))
        return Outcome(
            losses=first.losses,
            norms=first.norms,
            evaluation=first.evaluation,
            weights=first.weights,
            peak_bytes=peaks,
            names=names,
        )

    def close(self) -> None:
        """End all processes."""
        for process, connection in self.members:
            connection.close()
            process.kill()
        for process, _ in self.members:
            process.wait()
        self.members.clear()

    def _start(self, count: int) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        while len(self.members) < max(count, 1):
            ours, theirs = Pipe()
            argv = [sys.executable, "-m", "tests.contract.engine.member", str(theirs.fileno())]
            process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
            theirs.close()
            self.members.append((process, ours))

    def _collect(self, connections: list[Connection]) -> list[Any]:
        answers: list[Any] = [None] * len(connections)
        missing = set(range(len(connections)))
        problem = ""
        while missing and not problem:
            ready = wait([connections[rank] for rank in missing], timeout=self.timeout_s)
            if not ready:
                problem = f"ranks {sorted(missing)} did not finish within {self.timeout_s:.0f} s"
            for rank in [rank for rank in sorted(missing) if connections[rank] in ready]:
                try:
                    answers[rank] = connections[rank].recv()
                except EOFError:
                    answers[rank] = f"rank {rank} died"
                missing.discard(rank)
                if isinstance(answers[rank], str):
                    problem = f"rank {rank}: {answers[rank]}"
        if problem:
            self.close()
            raise TrialFailed(problem)
        return answers
