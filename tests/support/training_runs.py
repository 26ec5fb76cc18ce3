"""Real training runs for tests: orders of small jobs, and their ranks as processes without an agent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trimtab import wire
from trimtab.ids import AttemptRef, JobId, NodeId, PoolId, UnitId
from trimtab.inventory import DeviceKind
from trimtab.job import DeviceRef
from trimtab.jobspec import CheckpointPolicy, JobKind, JobSpec
from trimtab.model import AttentionSpec, FeedForwardSpec, ModelFamily, ModelSpec, StackRole, StackSpec
from trimtab.orders import RankSlot, RunOrder
from trimtab.strategy import Strategy
from trimtab.workload import DataKind, DataSpec, OptimizerSpec, TrainWorkload

ROOT = Path(__file__).resolve().parents[2]
JOB = JobId("job_0test")
_ATTENTION = AttentionSpec(num_heads=2, num_kv_heads=2, head_size=8)
_FEED_FORWARD = FeedForwardSpec(hidden_size=32)


def small_decoder(*, vocab_size: int = 300, num_layers: int = 2) -> ModelSpec:
    """A decoder of a few thousand parameters."""
    stack = StackSpec(role=StackRole.DECODER, num_layers=num_layers, attention=_ATTENTION, feed_forward=_FEED_FORWARD)
    return ModelSpec(name="small", family=ModelFamily.DECODER, hidden_size=16, vocab_size=vocab_size, stacks=(stack,))


def small_translator(*, vocab_size: int = 1536) -> ModelSpec:
    """An encoder-decoder of about 30,000 parameters."""
    encoder = StackSpec(role=StackRole.ENCODER, num_layers=1, attention=_ATTENTION, feed_forward=_FEED_FORWARD, causal=False)
    decoder = StackSpec(
        role=StackRole.DECODER, num_layers=1, attention=_ATTENTION, feed_forward=_FEED_FORWARD, cross_attention=True
    )
    return ModelSpec(
        name="small-translator",
        family=ModelFamily.ENCODER_DECODER,
        hidden_size=16,
        vocab_size=vocab_size,
        stacks=(encoder, decoder),
    )


def text_workload(folder: Path, *, num_steps: int = 12, global_batch: int = 4, seed: int = 3) -> TrainWorkload:
    """A workload over ``folder`` with texts in it."""
    return TrainWorkload(
        num_steps=num_steps,
        sequence_length=16,
        global_batch=global_batch,
        data=DataSpec(kind=DataKind.TEXT, paths=(str(folder),), held_out_frac=0.3),
        optimizer=OptimizerSpec(learning_rate=3e-3, clip_norm=1.0),
        seed=seed,
    )


def write_texts(folder: Path, *, num_files: int = 8, num_lines: int = 60) -> Path:
    """Files of readable, different text."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(num_files):
        lines = [
            f"In file {index} the line {line} says that {index * line} comes after {line % 7}, as ever."
            for line in range(num_lines)
        ]
        (folder / f"text_{index}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """The folders of one job, as the control process lays them out."""

    root: Path

    @property
    def checkpoint_dir(self) -> Path:
        """Checkpoints of all attempts."""
        return self.root / "checkpoints"

    def attempt_dir(self, number: int) -> Path:
        """Files of one attempt."""
        return self.root / f"a{number}"


def make_order(
    folder: RunFolder,
    model: ModelSpec,
    train: TrainWorkload,
    strategy: Strategy,
    *,
    checkpoint: CheckpointPolicy,
    number: int = 1,
    resume_from: Path | None = None,
) -> RunOrder:
    """The order of one attempt on CPU devices of this machine."""
    slots = tuple(
        RankSlot(
            rank=rank,
            local_rank=rank,
            device=DeviceRef(pool_id=PoolId("local-cpu"), node_id=NodeId("here"), index=rank),
            kind=DeviceKind.CPU,
            cores=(),
        )
        for rank in range(strategy.world_size)
    )
    return RunOrder(
        attempt=AttemptRef(unit_id=UnitId(f"{JOB}.u0"), number=number),
        job_id=JOB,
        spec=JobSpec(name="test", kind=JobKind.TRAIN, model=model, train=train, checkpoint=checkpoint),
        strategy=strategy,
        argv=(sys.executable, "-m", "workers.training.main"),
        working_dir=str(folder.root),
        environment={},
        slots=slots,
        attempt_dir=str(folder.attempt_dir(number)),
        checkpoint_dir=str(folder.checkpoint_dir),
        address="",
        credential="",
        grace_s=20.0,
        resume_from=None if resume_from is None else str(resume_from),
    )


def next_attempt(order: RunOrder, folder: RunFolder, *, resume_from: Path | None) -> RunOrder:
    """The order of the attempt after ``order``."""
    number = order.attempt.number + 1
    return replace(
        order,
        attempt=AttemptRef(unit_id=order.attempt.unit_id, number=number),
        attempt_dir=str(folder.attempt_dir(number)),
        resume_from=None if resume_from is None else str(resume_from),
    )


def start_ranks(
    order: RunOrder, *, environment: Mapping[str, str] | None = None, pass_fds: tuple[int, ...] = ()
) -> list[subprocess.Popen[bytes]]:
    """Start every rank of the order; the log of each is ``rank-<r>.log`` in the attempt's folder."""
    attempt_dir = Path(order.attempt_dir)
    attempt_dir.mkdir(parents=True, exist_ok=True)
    file = attempt_dir / "order.json"
    file.write_text(wire.dumps(order), encoding="utf-8")
    processes = []
    for rank in range(len(order.slots)):
        command = [*order.argv, "--order", str(file), "--rank", str(rank), "--world-size", str(len(order.slots))]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(environment or {})}
        with (attempt_dir / f"rank-{rank}.log").open("ab") as log:
            processes.append(subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT, pass_fds=pass_fds))
    return processes


def finish(processes: list[subprocess.Popen[bytes]], *, timeout_s: float = 240.0) -> list[int]:
    """Exit codes of all ranks."""
    return [process.wait(timeout=timeout_s) for process in processes]


def rank_log(order: RunOrder, rank: int = 0) -> str:
    """What a rank printed."""
    return (Path(order.attempt_dir) / f"rank-{rank}.log").read_text(encoding="utf-8", errors="replace")
