"""One rank's run of a trial: synthetic data by step and global sample number, the same for every strategy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.contract.engine.faults import FAULTS
from tests.contract.engine.gang import Outcome, Trial
from workers.training.engine import Batch, Engine

HIDDEN_FRAC = 0.8
"""Share of targets hidden from the last sample of a global batch where counts are unequal; the first hides none."""


def global_batch(trial: Trial, step: int) -> Batch:
    """The samples of all data ranks of one step."""
    generator = torch.Generator().manual_seed(1000 + step)
    train, vocabulary = trial.train, trial.model.vocab_size
    ids = torch.randint(0, vocabulary, (train.global_batch, train.sequence_length + 1), generator=generator)
    targets = ids[:, 1:].clone()
    if trial.unequal:
        share = torch.linspace(0, HIDDEN_FRAC, train.global_batch)[:, None]
        targets[torch.rand(targets.shape, generator=generator) < share] = -100
    source = None
    if train.source_length:
        source = torch.randint(0, vocabulary, (train.global_batch, train.source_length), generator=generator)
    return Batch(tokens=ids[:, :-1], targets=targets, source=source)


def own_batch(trial: Trial, engine: Engine, step: int) -> Batch:
    """The share of this data rank: the r-th contiguous part."""
    size = trial.train.global_batch // engine.num_data_ranks
    return global_batch(trial, step).rows(engine.data_rank * size, (engine.data_rank + 1) * size)


def run_trial(trial: Trial, rank: int) -> Outcome:
    """Build the engine, take the steps, give what rank 0 can tell."""
    torch.set_num_threads(1)
    engine = Engine.build(model=trial.model, train=trial.train, strategy=trial.strategy, device=torch.device("cpu"))
    if trial.load_from:
        saved = torch.load(trial.load_from, weights_only=True)
        engine.load(saved["model"], saved["optimizer"])
    if trial.mutant:
        FAULTS[trial.mutant](engine)
    losses, norms = [], []
    evaluation = (0.0, 0)
    for offset in range(trial.num_steps):
        batch = own_batch(trial, engine, trial.first_step + offset)
        if offset == trial.num_steps // 2:
            evaluation = engine.evaluate(batch)
        step = engine.measured_step if trial.measure and offset == trial.num_steps - 1 else engine.step
        losses.append(step(batch))
        assert engine.last is not None
        norms.append(engine.last.gradient_norm or 0.0)
    names = (*engine.model_state(), *engine.optimizer_state())
    if trial.save_to:
        save(engine, trial.save_to, rank)
    weights = engine.full_model_state() or {}
    return Outcome(
        losses=tuple(losses),
        norms=tuple(norms),
        evaluation=evaluation,
        weights={name: weight.double().numpy() for name, weight in weights.items()},
        peak_bytes=(engine.peak_tensor_bytes(),),
        names=names,
    )


def save(engine: Engine, path: str, rank: int) -> None:
    """Write the whole state: each rank makes its DTensors whole, then rank 0 joins those of all stages."""
    state = {"model": whole(engine.model_state()), "optimizer": whole(engine.optimizer_state())}
    world_size = engine.strategy.world_size
    if world_size > 1:
        gathered: list[dict[str, dict[str, Tensor]] | None] = [None] * world_size
        torch.distributed.all_gather_object(gathered, state)
        state = {"model": {}, "optimizer": {}}
        for part in gathered:
            assert part is not None
            for kind, tensors in part.items():
                state[kind].update(tensors)
    if rank == 0:
        torch.save(state, path)


def whole(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DTensors made whole."""
    return {name: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor for name, tensor in state.items()}
