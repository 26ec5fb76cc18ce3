"""The batch that both benchmarks of the real engine feed to a step."""

from __future__ import annotations

import torch

from trimtab.model import ModelFamily, ModelSpec
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload
from workers.training.batch import Batch


def random_batch(model: ModelSpec, train: TrainWorkload, strategy: Strategy) -> Batch:
    """Random tokens from the workload's seed: what a step takes and holds does not depend on what they say.

    Tokens and targets are ``(micro_batch * num_micro_batches, sequence_length)``; an encoder-decoder also gets a source,
    ``source_length`` long.
    """
    generator = torch.Generator().manual_seed(train.seed)
    samples = strategy.micro_batch * strategy.num_micro_batches

    def tokens(length: int) -> torch.Tensor:
        return torch.randint(0, model.vocab_size, (samples, length), generator=generator)

    source = tokens(train.source_length) if model.family is ModelFamily.ENCODER_DECODER else None
    return Batch(tokens=tokens(train.sequence_length), targets=tokens(train.sequence_length), source=source)
