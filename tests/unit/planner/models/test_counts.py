"""Counts of models against published totals and against tensors listed one by one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from planner.models.counts import (
    attention_span,
    head_flops,
    layer_activations,
    layer_flops,
    layers_in_order,
    model_parameters,
    sample_flops,
)
from tests.support.planning import GPT2_SMALL, LLAMA_8B, tiny_model, tiny_translator
from trimtab.model import ModelSpec, NormKind, PositionKind, StackRole, StackSpec


def tensors(model: ModelSpec) -> list[tuple[int, ...]]:
    """Every parameter tensor of a model, listed as its modules hold them."""
    hidden = model.hidden_size
    found: list[tuple[int, ...]] = [(model.vocab_size, hidden)]
    if not model.tied_embeddings:
        found.append((model.vocab_size, hidden))
    for stack in model.stacks:
        if model.position is PositionKind.LEARNED:
            found.append((model.max_positions, hidden))
        for _ in range(stack.num_layers):
            found += norm(model, stack) + attention(model, stack)
            if stack.cross_attention:
                found += norm(model, stack) + attention(model, stack)
            found += norm(model, stack) + feed_forward(model, stack)
        found += norm(model, stack)
    return found


def norm(model: ModelSpec, stack: StackSpec) -> list[tuple[int, ...]]:
    return [(model.hidden_size,)] * (2 if stack.norm is NormKind.LAYER and stack.norm_bias else 1)


def attention(model: ModelSpec, stack: StackSpec) -> list[tuple[int, ...]]:
    a = stack.attention
    rows = [a.num_heads * a.head_size, a.num_kv_heads * a.head_size, a.num_kv_heads * a.head_size]
    found: list[tuple[int, ...]] = [(row, model.hidden_size) for row in rows] + [(model.hidden_size, rows[0])]
    found += [(row,) for row in rows] if a.qkv_bias else []
    return found + ([(model.hidden_size,)] if a.output_bias else [])


def feed_forward(model: ModelSpec, stack: StackSpec) -> list[tuple[int, ...]]:
    f, hidden = stack.feed_forward, model.hidden_size
    found: list[tuple[int, ...]] = [(f.hidden_size, hidden)] * (2 if f.gated else 1) + [(hidden, f.hidden_size)]
    return found + ([(f.hidden_size,)] * (2 if f.gated else 1) + [(hidden,)] if f.bias else [])


@pytest.mark.parametrize(("model", "published"), [(LLAMA_8B, 8_030_261_248), (GPT2_SMALL, 124_439_808)])
def test_published_totals(model: ModelSpec, published: int) -> None:
    assert model_parameters(model).total == published


@pytest.mark.parametrize(
    "model",
    [
        LLAMA_8B,
        GPT2_SMALL,
        tiny_model(),
        tiny_translator(num_encoder=3, num_decoder=5),
        replace(tiny_translator(), position=PositionKind.LEARNED, tied_embeddings=False),
    ],
    ids=lambda model: model.name,
)
def test_total_is_the_sum_of_all_tensors(model: ModelSpec) -> None:
    assert model_parameters(model).total == sum(math.prod(shape) for shape in tensors(model))


def test_forward_flops_are_two_per_matrix_element_and_token() -> None:
    model, length = LLAMA_8B, 512
    matrices = model_parameters(model).stacks[0].layer.matrices * 32
    scores = 32 * 4 * 32 * 128 * length * (length / 2)
    head = 2 * 4096 * 128_256 * length
    assert sample_flops(model, sequence_length=length).forward == pytest.approx(2 * matrices * length + scores + head)
    assert sample_flops(model, sequence_length=length).training == pytest.approx(3 * (2 * matrices * length + scores + head))


def test_cross_attention_reads_every_source_position() -> None:
    model = tiny_translator()
    decoder = model.stack(StackRole.DECODER)
    one = layer_flops(model, decoder, sequence_length=10, source_length=7)
    assert one.cross_scores == 10 * 7 * 4 * 4 * 16
    assert one.cross_projections == 10 * 2 * (2 * 64 * 64) + 7 * 2 * (2 * 64 * 64)
    assert layer_flops(model, model.stack(StackRole.ENCODER), sequence_length=10, source_length=7).cross_scores == 0


@pytest.mark.parametrize(
    ("causal", "window", "keys"),
    [(True, None, 50.0), (False, None, 100.0), (True, 10, 10.0), (False, 10, 20.0), (True, 80, 50.0)],
)
def test_keys_seen_by_a_query(causal: bool, window: int | None, keys: float) -> None:
    stack = tiny_model().stacks[0]
    changed = replace(stack, causal=causal, attention=replace(stack.attention, window=window))
    assert attention_span(changed, num_tokens=100) == keys


def test_head_and_layer_order() -> None:
    model = tiny_translator(num_encoder=2, num_decoder=3)
    assert [stack.role for stack in layers_in_order(model)] == [StackRole.ENCODER] * 2 + [StackRole.DECODER] * 3
    assert head_flops(model, sequence_length=5) == 2 * 64 * 256 * 5


def test_activations_of_the_modern_block() -> None:
    model = LLAMA_8B
    count = layer_activations(model, model.stacks[0])
    assert count.input == 4096
    assert count.whole == 4 * 4096
    assert count.divided == 2 * 4096 + 2 * 1024 + 32 + 4 * 14_336
    assert layer_activations(model, model.stacks[0], fused_gate=True).divided == count.divided - 14_336
    cross = layer_activations(tiny_translator(), tiny_translator().stack(StackRole.DECODER))
    assert cross.whole == 6 * 64
    assert cross.source == 2 * 64
