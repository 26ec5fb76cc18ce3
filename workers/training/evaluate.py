"""Held-out figures of the model, and the baselines that they are compared with."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from workers.data.dataset import DataSet, Samples
from workers.data.language import LanguageData
from workers.data.order import share
from workers.data.translation import TranslationData
from workers.training.agreement import Peers
from workers.training.batch import Batch
from workers.training.engine import Engine

INTERIM_BATCHES = 8
"""Global batches of an evaluation during training; the last one takes all."""


def to_batch(samples: Samples) -> Batch:
    """Arrays as the tensors that the engine takes."""
    return Batch(
        tokens=torch.from_numpy(samples.tokens),
        targets=torch.from_numpy(samples.targets),
        source=None if samples.source is None else torch.from_numpy(samples.source),
    )


def held_out_loss(
    engine: Engine, data: DataSet, *, global_batch: int, max_batches: int | None, go_on: Callable[[], bool]
) -> tuple[float, int] | None:
    """Mean loss in nats per target and the number of targets; None where ``go_on`` said no (equal at all ranks).

    The last global batch is filled up with samples whose targets are ignored.
    """
    num_batches = -(-data.num_held_out // global_batch)
    total, count = 0.0, 0
    for index in range(num_batches if max_batches is None else min(num_batches, max_batches)):
        ids = np.arange(index * global_batch, min((index + 1) * global_batch, data.num_held_out))
        samples = data.held_out(ids).padded(global_batch)
        rows = share(np.arange(global_batch), engine.data_rank, engine.num_data_ranks)
        loss, targets = engine.evaluate(to_batch(samples.rows(rows)))
        total += loss
        count += targets
        if not go_on():
            return None
    return total / count, count


def loss_figures(loss_nats: float, count: int) -> dict[str, float]:
    """Figures of a held-out loss."""
    return {
        "held_out_loss_nats": loss_nats,
        "perplexity": math.exp(min(loss_nats, 700.0)),
        "held_out_targets": float(count),
    }


def baseline_figures(data: DataSet, figures: dict[str, float], peers: Peers) -> dict[str, float]:
    """What a model without learning of structure reaches on the same held-out data; computed at rank 0, empty elsewhere."""
    if not peers.first:
        return {}
    if isinstance(data, LanguageData):
        trigram = data.trigram_loss_nats()
        return {"trigram_loss_nats": trigram, "loss_margin_nats": trigram - figures["held_out_loss_nats"]}
    if isinstance(data, TranslationData):
        lexicon = data.lexicon_bleu()
        return (
            {"lexicon_bleu": lexicon, "bleu_margin": figures["bleu"] - lexicon}
            if "bleu" in figures
            else {"lexicon_bleu": lexicon}
        )
    return {}
