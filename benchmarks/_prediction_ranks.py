"""One rank of ``local_prediction.py``: builds the trainer's real engine for each case and times its steps when told to.

Cases come from a file; orders as JSON lines on standard input, answers as JSON lines on standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks._random_batch import random_batch
from trimtab.inventory import DeviceKind
from trimtab.model import ModelSpec
from trimtab.strategy import Strategy
from trimtab.wire import loads
from trimtab.workload import TrainWorkload
from workers.training.batch import Batch
from workers.training.distributed import join, leave
from workers.training.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model trained under a strategy."""

    name: str
    model: ModelSpec
    train: TrainWorkload
    strategy: Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """All cases of one number of ranks."""

    cases: tuple[Case, ...]


class Runner:
    """Keeps one engine per case and runs steps on seeded random tokens (a step's time does not depend on what they say)."""

    def __init__(self, cases: tuple[Case, ...], device: torch.device) -> None:
        self.cases = cases
        self.device = device
        self._engines: dict[int, tuple[Engine, Batch]] = {}

    def run(self, index: int, steps: int) -> list[float]:
        """Seconds of ``steps`` steps, after one that is not counted."""
        engine, batch = self._engine(index)
        engine.step(batch)
        out = []
        for _ in range(steps):
            if dist.is_initialized():
                dist.barrier()
            started = time.perf_counter()
            engine.step(batch)
            out.append(time.perf_counter() - started)
        return out

    def peak_bytes(self, index: int) -> int:
        """Peak tensor bytes of a step, by torch's own tracker."""
        engine, batch = self._engine(index)
        engine.step(batch)
        engine.measured_step(batch)
        return engine.peak_tensor_bytes()

    def _engine(self, index: int) -> tuple[Engine, Batch]:
        if index not in self._engines:
            case = self.cases[index]
            engine = Engine.build(model=case.model, train=case.train, strategy=case.strategy, device=self.device)
            self._engines[index] = (engine, random_batch(case.model, case.train, case.strategy))
        return self._engines[index]


def main() -> None:
    """Serve orders until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    options = parser.parse_args()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # torch's own prints must not mix with the answers
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    info = join(rank=rank, local_rank=rank, world_size=world_size, kind=DeviceKind.CPU, store_path=options.store)
    runner = Runner(loads(Cases, options.cases.read_text()).cases, info.device)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "time":
            answer: dict[str, object] = {"seconds": runner.run(order["case"], order["steps"])}
        else:
            answer = {"peak_bytes": runner.peak_bytes(order["case"])}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    leave()


if __name__ == "__main__":
    main()
