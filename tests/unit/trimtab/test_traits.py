"""What a config says beyond counts reaches whoever builds modules: the built-in trainer refuses what it does not make."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab.builtin import beyond_builtin
from trimtab.spec.huggingface import model_from_config

PLAIN = ("llama", "mistral", "qwen2", "gpt2")
BEYOND = {
    "gemma": "scaled embeddings",
    "phi": "attention and feed-forward block in parallel",
    "olmo2": "norms after the blocks",
    "phi3": "rotary positions in a part of each head",
    "mixtral": "a mixture of experts",
    "deepseek_v3": "latent attention",
    "bert": "a model of family encoder",
    "resnet": "a model of family convolutional",
}


@pytest.mark.parametrize("model_type", PLAIN)
def test_plain_decoders_are_built(model_type: str) -> None:
    assert beyond_builtin(model_from_config({"model_type": model_type})) == ()


@pytest.mark.parametrize("model_type", BEYOND)
def test_others_are_refused_in_words(model_type: str) -> None:
    assert BEYOND[model_type] in beyond_builtin(model_from_config({"model_type": model_type}))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model_type": "deepseek_v3"}, [3, 58]),
        ({"model_type": "gemma2"}, [13, 13]),
        ({"model_type": "llama4_text", "interleave_moe_layer_step": 2, "attention_chunk_size": None}, [24, 24]),
    ],
)
def test_runs_of_layers(values: dict[str, Any], expected: list[int]) -> None:
    stacks = model_from_config(values).stacks
    assert [stack.num_layers for stack in stacks] == expected
    assert [stack.final_norm for stack in stacks] == [False, True]
    assert stacks[1].alternates == (values["model_type"] != "deepseek_v3")
