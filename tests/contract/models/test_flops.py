"""Forward FLOPs of models that were read from a ``config.json`` agree with torch's own counter to 2 %.

torch counts every key of an attention, masked or not, so the specs are compared without masks and windows.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from planner.models.counts import sample_flops
from trimtab.model import ModelSpec
from trimtab.spec.huggingface import RULES, model_from_config

pytestmark = pytest.mark.runtime
torch = pytest.importorskip("torch", reason="torch is not installed (extra: runtime)")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: its classes are the reference here")

LENGTH, SOURCE = 48, 32
TEXT = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 300}
CASES: dict[str, dict[str, Any]] = {
    "llama": {**TEXT, "num_key_value_heads": 2},
    "qwen3": {**TEXT, "num_key_value_heads": 2, "head_dim": 32},
    "gemma3_text": {**TEXT, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 8},
    "gpt2": {**TEXT, "n_positions": 64},
    "mixtral": {**TEXT, "num_key_value_heads": 2, "num_local_experts": 6, "num_experts_per_tok": 2},
    "qwen3_moe": {**TEXT, "num_key_value_heads": 2, "num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 48},
    "deepseek_v3": {
        **TEXT,
        "num_key_value_heads": 4,
        "kv_lora_rank": 24,
        "q_lora_rank": 40,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 32,
        "first_k_dense_replace": 1,
    },
    "bert": {**TEXT, "max_position_embeddings": 64},
    "t5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 3, "num_heads": 4, "vocab_size": 300},
    "bart": {
        "d_model": 64,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 96,
        "vocab_size": 300,
        "max_position_embeddings": 64,
    },
    "vit": {**TEXT, "image_size": 64, "patch_size": 8},
    "dinov2": {**TEXT, "image_size": 56, "patch_size": 14},
    "swin": {"embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "image_size": 64, "patch_size": 4},
    "resnet": {"embedding_size": 16, "hidden_sizes": [32, 64, 96], "depths": [2, 2, 1]},
    "convnext": {"hidden_sizes": [16, 32, 64, 96], "depths": [2, 2, 3, 1], "image_size": 224},
    "mobilenet_v2": {"depth_multiplier": 0.5, "image_size": 224},
    "whisper": {
        "d_model": 64,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 128,
        "vocab_size": 300,
        "max_source_positions": 100,
        "max_target_positions": 64,
        "num_mel_bins": 20,
    },
    "wav2vec2": {**TEXT, "conv_dim": [32, 32, 32], "conv_kernel": [10, 3, 2], "conv_stride": [5, 2, 2],
                 "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
}  # fmt: skip


def inputs(model_type: str, values: dict[str, Any]) -> dict[str, Any]:
    """One sample of what the class takes."""
    words = torch.randint(0, 299, (1, LENGTH))
    if model_type in ("t5", "bart"):
        return {"input_ids": torch.randint(0, 299, (1, SOURCE)), "decoder_input_ids": words}
    if model_type == "whisper":
        return {"input_features": torch.randn(1, 20, 200), "decoder_input_ids": words}
    if model_type == "wav2vec2":
        # so many samples that the convolutions make LENGTH frames of them
        return {"input_values": torch.randn(1, ((LENGTH - 1) * 2 + 2 - 1) * 2 * 5 + 2 * 5 + 10)}
    if "image_size" in values or model_type == "resnet":
        side = values.get("image_size", 224)
        return {"pixel_values": torch.randn(1, 3, side, side)}
    return {"input_ids": words}


def unmasked(model: ModelSpec) -> ModelSpec:
    stacks = tuple(
        dataclasses.replace(stack, causal=False, attention=dataclasses.replace(stack.attention, window=None))
        for stack in model.stacks
    )
    return dataclasses.replace(model, stacks=stacks)


@pytest.mark.parametrize("model_type", CASES)
def test_forward_flops(model_type: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    transformers.logging.set_verbosity_error()
    values = {"model_type": model_type, "pad_token_id": 0, **CASES[model_type]}
    spec = model_from_config(values)
    model = spec if model_type == "swin" else unmasked(spec)
    config = transformers.CONFIG_MAPPING[model_type].from_dict(dict(values))
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"  # the grouped product of experts is unknown to the counter
    rule = RULES[model_type]
    module = getattr(transformers, rule.class_of(rule.all_heads[0]))(config).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(**inputs(model_type, values))
    source = SOURCE if model_type in ("t5", "bart") else 0
    counted = sample_flops(model, sequence_length=LENGTH, source_length=source).forward
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.02), (counted, counter.get_total_flops())
