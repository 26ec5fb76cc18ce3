"""Greedy decoding with an encoder-decoder, and the score of its translations.

The encoder runs once per batch; the decoder runs again over the growing prefix, which for sentences of a few dozen words costs
less than keeping keys and values would save. Sources are padded as in training, so the model sees what it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from trimtab.model import ModelSpec
from workers.data.order import IntArray
from workers.data.translation import TranslationData
from workers.data.words import BEGIN_ID, END_ID, PAD_ID
from workers.training.agreement import Peers
from workers.training.engine import Engine
from workers.training.models import Transformer, build_model

DECODE_BATCH = 128


@torch.no_grad()
def greedy(model: Transformer, source: Tensor, max_length: int) -> Tensor:
    """The likeliest next word at each place, from the begin mark to the end mark of every row.

    ``source`` [B, M] int64; the result [B, L] int64 with L at most ``max_length``, without the begin mark, padded after each
    end mark.
    """
    if model.encoder is None:
        raise ValueError("greedy translation needs an encoder-decoder")
    assert model.embedding is not None, "the whole model has its embedding"
    assert model.head is not None, "the whole model has its head"
    memory = model.encoder(model.embedding(source))
    tokens = torch.full((source.shape[0], 1), BEGIN_ID, dtype=torch.int64, device=source.device)
    ended = torch.zeros(source.shape[0], dtype=torch.bool, device=source.device)
    for _ in range(max_length):
        hidden = model.decoder(model.embedding(tokens), memory)
        chosen = model.head(hidden[:, -1]).argmax(dim=-1)
        chosen = torch.where(ended, PAD_ID, chosen)
        tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        ended = ended | (chosen == END_ID)
        if bool(ended.all()):
            break
    return tokens[:, 1:]


def whole_model(engine: Engine, spec: ModelSpec, peers: Peers) -> Transformer:
    """The trained model, whole, at every rank; all ranks take part."""
    state = engine.full_model_state()
    dtype = next(iter(engine.model_state().values())).dtype
    model = build_model(spec, dtype)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in sorted(parameters):
            if state is not None:
                parameters[name].copy_(state[name])
            if peers.world_size > 1:
                dist.broadcast(parameters[name].data, src=0)
    return model.to(engine.device).eval()


def translate(
    model: Transformer, data: TranslationData, max_length: int, *, peers: Peers, go_on: Callable[[], bool]
) -> list[list[int]] | None:
    """Ids of every held-out sentence, decoded by all ranks in turn; None where ``go_on`` said no (equal at all ranks)."""
    sources = data.held_out_sources()
    order = _by_length(sources)
    batches = [order[start : start + DECODE_BATCH] for start in range(0, len(order), DECODE_BATCH)]
    device = next(model.parameters()).device
    mine: dict[int, list[int]] = {}
    for first in range(0, len(batches), peers.world_size):
        index = first + peers.rank
        if index < len(batches):
            rows = batches[index]
            out = greedy(model, torch.from_numpy(sources[rows]).to(device), max_length)
            mine |= dict(zip(rows.tolist(), out.tolist(), strict=True))
        if not go_on():
            return None
    everyone: dict[str, list[int]] = {}
    for text in peers.gather_texts(json.dumps(mine)):
        everyone |= json.loads(text)
    return [everyone[str(row)] for row in range(len(sources))]


def _by_length(sources: IntArray) -> IntArray:
    """Rows in order of length, so that the rows of a batch end at about the same place."""
    return np.argsort((sources != PAD_ID).sum(axis=1), kind="stable")
