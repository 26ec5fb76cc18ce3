"""The planner's counts and the trainer's modules agree to the last parameter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.models.counts import model_parameters
from tests.support.planning import GPT2_SMALL, LLAMA_8B, tiny_model, tiny_translator
from trimtab.model import FeedForwardSpec, ModelSpec, NormKind, PositionKind

pytestmark = pytest.mark.runtime
torch = pytest.importorskip("torch", reason="torch is not installed (extra: runtime)")


def variants() -> list[ModelSpec]:
    made = [LLAMA_8B, GPT2_SMALL, tiny_model(), tiny_model(num_layers=3, num_kv_heads=1), tiny_translator(num_encoder=3)]
    for position in PositionKind:
        for tied in (True, False):
            for base in (tiny_model(), tiny_translator(), GPT2_SMALL):
                made.append(replace(base, position=position, tied_embeddings=tied, max_positions=77))
    for gated in (True, False):
        for bias in (True, False):
            block = FeedForwardSpec(hidden_size=96, gated=gated, bias=bias)
            stacks = tuple(
                replace(
                    stack,
                    feed_forward=block,
                    norm=NormKind.LAYER,
                    norm_bias=bias,
                    attention=replace(stack.attention, qkv_bias=bias, output_bias=not bias),
                )
                for stack in tiny_translator().stacks
            )
            made.append(replace(tiny_translator(), stacks=stacks))
    return made


@pytest.mark.parametrize("model", variants(), ids=lambda model: f"{model.name}-{model.position}")
def test_parameters_of_the_real_modules(model: ModelSpec) -> None:
    from workers.training.models import build_on_meta

    module = build_on_meta(model, torch.float32)
    assert sum(parameter.numel() for parameter in module.parameters()) == model_parameters(model).total
