"""Where a run stands, and how that goes into a checkpoint and comes out of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from trimtab import wire
from trimtab.jobspec import JobSpec
from trimtab.strategy import Strategy
from workers.data.dataset import DataSet
from workers.data.order import IntArray, SampleOrder, SeenGuard, digest_of_ids
from workers.training.checkpoint_manifest import Manifest, RunState
from workers.training.engine import STEP_NAME, Engine
from workers.training.lineage import NO_LOSSES, chain
from workers.training.shards import Part, ShardReader

SEEN = "loop/seen"
MODEL = "model/"
OPTIMIZER = "optimizer/"
RANDOM = "random/"


@dataclass(slots=True)
class Progression:
    """Step, samples and losses so far. Every rank keeps the same."""

    order: SampleOrder
    guard: SeenGuard
    global_batch: int
    step: int = 0
    loss: float = float("nan")
    loss_digest: str = NO_LOSSES

    @classmethod
    def start(cls, data: DataSet, *, global_batch: int, seed: int) -> Progression:
        """Before the first step."""
        order = SampleOrder(data.num_train, seed)
        return cls(order=order, guard=SeenGuard(data.num_train), global_batch=global_batch)

    @property
    def position(self) -> int:
        """Samples taken so far."""
        return self.step * self.global_batch

    def next_ids(self) -> tuple[IntArray, str]:
        """The global batch of the next step, marked as seen, and its fingerprint. Raises SampleOrderError for one seen before."""
        pieces = self.order.pieces(self.position, self.global_batch)
        self.guard.take(pieces)
        ids = self.order.ids(self.position, self.global_batch)
        return ids, digest_of_ids(ids)

    def finished(self, loss: float) -> None:
        """Record the step that ``next_ids`` began."""
        self.step += 1
        self.loss = loss
        self.loss_digest = chain(self.loss_digest, self.step, loss)


def spec_digest(spec: JobSpec) -> str:
    """Fingerprint of what is trained: model and workload, not where or by which strategy."""
    return hashlib.sha256(f"{wire.dumps(spec.model)}\n{wire.dumps(spec.train)}".encode()).hexdigest()


def run_state(
    progression: Progression, *, data_digest: str, digest_of_spec: str, strategy: Strategy, world_size: int
) -> RunState:
    """What the manifest says of the run."""
    return RunState(
        step=progression.step,
        position=progression.position,
        epoch=progression.guard.epoch,
        loss=progression.loss,
        loss_digest=progression.loss_digest,
        data_digest=data_digest,
        spec_digest=digest_of_spec,
        strategy=strategy,
        world_size=world_size,
    )


def tensor_parts(engine: Engine) -> list[Part]:
    """This rank's parts of parameters and optimizer state, live."""
    parts = []
    for name, held in engine.parallel.held.items():
        layout = held.layout
        parts.append(Part(name=MODEL + name, shape=layout.shape, box=layout.box, local=held.local, primary=layout.primary))
    for name, states in engine.optimizer.state().items():
        layout = engine.parallel.held[name].layout
        for key, local in states.items():
            full_name = f"{OPTIMIZER}{name}.{key}"
            parts.append(Part(name=full_name, shape=layout.shape, box=layout.box, local=local, primary=layout.primary))
    return parts


def checkpoint_parts(engine: Engine, progression: Progression, rank: int) -> list[Part]:
    """Everything of this rank that a checkpoint holds."""
    parts = tensor_parts(engine)
    parts.append(Part.whole(f"{RANDOM}{rank}/cpu", torch.get_rng_state()))
    if engine.device.type == "cuda":
        parts.append(Part.whole(f"{RANDOM}{rank}/cuda", torch.cuda.get_rng_state(engine.device)))
    if rank == 0:
        parts.append(Part.whole(SEEN, torch.from_numpy(progression.guard.state())))
        parts.append(Part.whole(OPTIMIZER + STEP_NAME, torch.tensor([engine.num_updates], dtype=torch.int64)))
    return parts


def restore(reader: ShardReader, manifest: Manifest, *, engine: Engine, progression: Progression, rank: int) -> None:
    """Take over a checkpoint of any strategy. Raises CheckpointError where it does not fit the model."""
    for part in tensor_parts(engine):
        reader.fill(part)
    engine.num_updates = int(reader.whole(OPTIMIZER + STEP_NAME).item())
    engine.optimizer.set_num_updates(engine.num_updates)
    run = manifest.run
    progression.step, progression.loss, progression.loss_digest = run.step, run.loss, run.loss_digest
    progression.guard.restore(run.epoch, reader.whole(SEEN).numpy(), position=run.position)
    names = reader.names()
    # Under another number of ranks the streams of random numbers differ anyway; only known ones are taken up again.
    if f"{RANDOM}{rank}/cpu" in names:
        torch.set_rng_state(reader.whole(f"{RANDOM}{rank}/cpu"))
    if engine.device.type == "cuda" and f"{RANDOM}{rank}/cuda" in names:
        torch.cuda.set_rng_state(reader.whole(f"{RANDOM}{rank}/cuda"), engine.device)
