"""The step that printed FLOP/s mean, for rows that print neither a step time nor a rate of tokens.

Only conventions whose formula is published are used; each counts full (not causal) attention.

- ``megatron_sc21_with_recompute``: arXiv 2104.04473, equation 3: 96 B s l h^2 (1 + s / 6h + V / 16 l h), full recompute counted.
- ``maxtext_pre2025_noncausal``: MaxText's ``calculate_tflops_training_per_device`` before causal attention was halved: three
  forward passes of all matrix products, with every query multiplied with every key. Models with windows or latent attention are
  left out: its releases differ in how they count them.
"""

from __future__ import annotations

from benchmarks._point_types import RowInput
from planner.models.counts import head_flops, layer_flops, score_flops
from trimtab.model import ModelSpec


def step_from_flops(row: RowInput, tflops_per_device: float | None, convention: str | None) -> float | None:
    """Seconds of a step, or None where the rate, the batch or a formula is not known."""
    if tflops_per_device is None or row.global_batch is None:
        return None
    if convention == "megatron_sc21_with_recompute":
        flops = _sc21_flops(row.model, row.seq_len)
    elif convention == "maxtext_pre2025_noncausal" and _is_plain(row.model):
        flops = 3.0 * _noncausal_forward_flops(row.model, row.seq_len)
    else:
        return None
    return row.global_batch * flops / (tflops_per_device * 1e12 * row.devices)


def _is_plain(model: ModelSpec) -> bool:
    return all(stack.attention.window is None and stack.attention.latent is None for stack in model.stacks)


def _sc21_flops(model: ModelSpec, seq_len: int) -> float:
    layers, width, vocab = model.num_layers, model.hidden_size, model.vocab_size
    return 96.0 * seq_len * layers * width**2 * (1.0 + seq_len / (6.0 * width) + vocab / (16.0 * layers * width))


def _noncausal_forward_flops(model: ModelSpec, seq_len: int) -> float:
    total = head_flops(model, sequence_length=seq_len)
    for stack in model.stacks:
        layer = layer_flops(model, stack, sequence_length=seq_len, source_length=0)
        scores = seq_len * seq_len * score_flops(stack.attention)
        total += stack.num_layers * (layer.projections + layer.feed_forward + scores)
    return total
