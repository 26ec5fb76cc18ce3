"""Seeded random configurations of every model type: small sizes, every key that changes a count or a kind of layer."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from trimtab.spec.huggingface import defaults_of

Draw = Callable[[random.Random, dict[str, Any]], Any]


def _pick(*choices: Any) -> Draw:
    return lambda rng, drawn: rng.choice(choices)


def _between(low: int, high: int) -> Draw:
    return lambda rng, drawn: rng.randint(low, high)


def _flag(rng: random.Random, drawn: dict[str, Any]) -> bool:
    return rng.random() < 0.5


def _divisor(rng: random.Random, drawn: dict[str, Any]) -> int:
    heads = drawn["num_attention_heads"]
    return rng.choice([n for n in range(1, heads + 1) if heads % n == 0])


def _maybe(draw: Draw) -> Draw:
    return lambda rng, drawn: draw(rng, drawn) if rng.random() < 0.6 else None


def _kinds(*kinds: str) -> Draw:
    return lambda rng, drawn: [rng.choice(kinds) for _ in range(drawn["num_hidden_layers"])]


def _some_layers(rng: random.Random, drawn: dict[str, Any]) -> list[int]:
    return sorted(rng.sample(range(drawn["num_hidden_layers"]), rng.randint(0, drawn["num_hidden_layers"])))


BASE: dict[str, Draw] = {
    "num_hidden_layers": _between(1, 7),
    "num_attention_heads": _pick(1, 2, 3, 4, 6, 8),
    "hidden_size": lambda rng, drawn: drawn["num_attention_heads"] * 2 * rng.randint(2, 6),
    "vocab_size": _between(11, 90),
    "tie_word_embeddings": _flag,
}
"""Drawn first: others depend on them."""

BY_KEY: dict[str, Draw] = {
    "intermediate_size": _between(3, 60),
    "num_key_value_heads": _divisor,
    "head_dim": _pick(2, 4, 6, 8),
    "max_position_embeddings": _between(5, 70),
    "attention_bias": _flag,
    "attention_out_bias": _flag,
    "mlp_bias": _flag,
    "qkv_bias": _flag,
    "use_bias": _flag,
    "use_qkv_bias": _flag,
    "bias": _flag,
    "lm_head_bias": _flag,
    "qk_layernorm": _flag,
    "use_qk_norm": _flag,
    "use_post_norm": _flag,
    "use_parallel_residual": _flag,
    "new_decoder_architecture": _flag,
    "multi_query": _flag,
    "parallel_attn": _flag,
    "num_ln_in_parallel_attn": _pick(None, 1, 2),
    "num_kv_heads": _divisor,
    "ffn_hidden_size": _maybe(_between(3, 60)),
    "ffn_dim": _between(3, 60),
    "n_inner": _maybe(_between(3, 60)),
    "dff": _between(3, 60),
    "sliding_window": _maybe(_between(1, 9)),
    "use_sliding_window": _flag,
    "max_window_layers": _between(0, 5),
    "layer_types": _maybe(_kinds("full_attention", "sliding_attention")),
    "mlp_layer_types": _maybe(_kinds("dense", "sparse")),
    "num_local_experts": _between(3, 6),
    "num_experts": _between(3, 6),
    "n_routed_experts": _pick(4, 8),
    "moe_num_experts": _between(3, 6),
    "num_experts_per_tok": _between(1, 3),
    "moe_k": _between(1, 3),
    "moe_topk": _between(1, 3),
    "n_group": _pick(1, 2),
    "topk_group": _pick(1),
    "moe_intermediate_size": _between(3, 30),
    "shared_intermediate_size": _pick(0, 5, 12),
    "shared_expert_intermediate_size": _between(3, 30),
    "n_shared_experts": _between(1, 3),
    "num_shared_experts": _between(1, 3),
    "moe_num_shared_experts": _between(0, 2),
    "moe_layer_interval": _between(1, 3),
    "moe_layer_start_index": _between(0, 3),
    "moe_layer_end_index": _between(-1, 5),
    "decoder_sparse_step": _between(1, 3),
    "mlp_only_layers": _maybe(_some_layers),
    "first_k_dense_replace": _between(0, 4),
    "intermediate_size_mlp": _between(3, 60),
    "interleave_moe_layer_step": _between(1, 3),
    "moe_layers": _maybe(_some_layers),
    "kv_lora_rank": _between(2, 12),
    "q_lora_rank": _maybe(_between(2, 12)),
    "qk_rope_head_dim": _pick(2, 4),
    "qk_nope_head_dim": _between(2, 9),
    "v_head_dim": _between(2, 9),
    "type_vocab_size": _between(1, 4),
    "embedding_size": _between(3, 9),
    "hidden_dim": _between(3, 60),
    "max_2d_position_embeddings": _between(3, 9),
    "relative_attention_num_buckets": _pick(4, 8),
    "use_task_id": _flag,
    "task_type_vocab_size": _between(1, 4),
    "relative_attention": _flag,
    "position_biased_input": _flag,
    "max_relative_positions": _pick(-1, 5, 9),
    "pos_att_type": _pick(None, "c2p|p2c", ["c2p"], ["p2c", "c2p"]),
    "d_kv": _pick(2, 4, 6),
    "d_ff": _between(3, 60),
    "num_decoder_layers": _maybe(_between(1, 5)),
    "feed_forward_proj": _pick("relu", "gated-gelu", "gated-silu", "gelu"),
    "encoder_ffn_dim": _between(3, 60),
    "decoder_ffn_dim": _between(3, 60),
    "decoder_layers": _between(1, 5),
    "decoder_attention_heads": _divisor,
    "scale_embedding": _flag,
    "share_encoder_decoder_embeddings": _flag,
    "image_size": _pick(32, 48, 64, [32, 64]),
    "patch_size": _pick(4, 8, 16),
    "num_channels": _between(1, 4),
    "pooler_output_size": _maybe(_between(3, 20)),
    "mlp_ratio": _between(1, 4),
    "use_swiglu_ffn": _flag,
    "use_gated_mlp": _flag,
    "use_mask_token": _flag,
    "num_register_tokens": _between(0, 4),
    "query_bias": _flag,
    "key_bias": _flag,
    "value_bias": _flag,
    "proj_bias": _flag,
    "use_absolute_position_embeddings": _flag,
    "use_relative_position_bias": _flag,
    "use_shared_relative_position_bias": _flag,
    "layer_scale_init_value": _pick(0.0, 0.1, 1e-6),
    "vision_use_head": _flag,
    "num_mel_bins": _pick(16, 24),
    "max_length": _between(20, 60),
    "frequency_stride": _between(3, 10),
    "time_stride": _between(3, 10),
    "max_source_positions": _between(10, 30),
    "max_target_positions": _between(10, 30),
    "classifier_proj_size": _between(3, 20),
    "use_weighted_layer_sum": _flag,
    "conv_dim": lambda rng, drawn: [rng.randint(2, 9) * 2 for _ in range(3)],
    "conv_kernel": lambda rng, drawn: [rng.randint(1, 5) for _ in range(3)],
    "conv_stride": lambda rng, drawn: [rng.randint(1, 3) for _ in range(3)],
    "conv_bias": _flag,
    "feat_extract_norm": _pick("group", "layer"),
    "feat_proj_layer_norm": _flag,
    "num_conv_pos_embeddings": _between(3, 8),
    "conv_pos_kernel_size": _pick(3, 5),
    "conv_pos_batch_norm": _flag,
    "num_conv_pos_embedding_groups": lambda rng, drawn: rng.choice([1, 2]),
    "do_stable_layer_norm": _flag,
    "mask_time_prob": _pick(0.0, 0.05),
    "num_buckets": _pick(8, 16),
    "add_adapter": _flag,
    "adapter_kernel_size": _pick(3),
    "adapter_stride": _pick(2),
    "num_adapter_layers": _between(1, 3),
    "output_hidden_size": _maybe(_pick(8, 12)),
    "adapter_attn_dim": _maybe(_between(2, 5)),
    "multimodal_projector_bias": _flag,
    "mm_tokens_per_image": _pick(4, 16),
    "downsample_factor": _pick(1, 2),
    "spatial_merge_size": _pick(1, 2),
    "downsample_ratio": _pick(0.5),
    "scale_factor": _pick(1, 2),
    "projection_dim": _between(3, 20),
    "embed_dim": lambda rng, drawn: drawn["hidden_size"],
    "depth": lambda rng, drawn: drawn["num_hidden_layers"],
    "out_hidden_size": _between(3, 20),
    "temporal_patch_size": _pick(1, 2),
    "num_position_embeddings": _between(3, 20),
    "fullatt_block_indexes": lambda rng, drawn: _some_layers(rng, drawn),
    "deepstack_visual_indexes": lambda rng, drawn: _some_layers(rng, drawn),
    "window_size": _pick(16, 32),
    "projector_input_dim": _pick(12),
    "projector_output_dim": _pick(12),
    "vision_output_dim": _between(3, 20),
    "projection_size": _maybe(_between(3, 20)),
    "num_patches": _between(3, 20),
    "norm_type": _pick("layer_norm", "rms_norm"),
    "use_mean_pooling": _flag,
    "local_attention": _pick(4, 8),
    "norm_bias": _flag,
    "decoder_bias": _flag,
    "classifier_bias": _flag,
    "num_hidden_groups": _pick(1),
    "inner_group_num": _between(1, 3),
    "num_sparse_encoder_layers": _between(0, 3),
    "num_sparse_decoder_layers": _between(0, 3),
    "router_bias": _flag,
    "num_conv_layers": _pick(2),
    "conv_kernel_sizes": _pick([3, 5], [5, 5]),
    "conv_channels": _pick(8, 12),
    "input_feat_per_channel": _between(3, 9),
    "input_channels": _between(1, 2),
    "num_dense_layers": _between(0, 4),
    "global_attn_every_n_layers": _between(1, 4),
    "intermediate_multiple_size": _between(1, 4),
    "enable_bias": _flag,
    "do_layer_norm_before": _flag,
    "_remove_final_layer_norm": _flag,
    "layer_norm_elementwise_affine": _flag,
    "index_n_heads": _pick(2, 4),
    "index_head_dim": _pick(4, 8),
    "hidden_act": _pick("silu", "gelu", "relu"),
}

ONLY: dict[str, dict[str, Draw]] = {
    "apertus": {"hidden_act": _pick("xielu", "silu")},
    "llama4_text": {"layer_types": lambda rng, drawn: None, "num_key_value_heads": _divisor},
    "internlm3": {"attention_bias": _pick(True), "mlp_bias": _pick(True)},
    "helium": {"head_dim": lambda rng, drawn: drawn["hidden_size"] // drawn["num_attention_heads"]},
    "axk1": {"q_lora_rank": _between(2, 12)},
    "cwm": {"sliding_window": _between(1, 9)},
    "exaone4": {"sliding_window": _between(1, 9)},
    "exaone_moe": {"sliding_window": _between(1, 9)},
    "diffllama": {"num_key_value_heads": _pick(2), "num_attention_heads": _pick(2, 4, 6)},
    "gpt_neo": {
        "attention_types": lambda rng, drawn: [[["global", "local"], drawn["num_hidden_layers"] // 2], [["local"], 1]][
            : 1 + drawn["num_hidden_layers"] % 2
        ],
    },
    "deberta-v2": {
        "type_vocab_size": _pick(0, 2),
        "share_att_key": _flag,
        "position_buckets": _pick(-1, 6),
        "norm_rel_ebd": _pick("none", "layer_norm"),
        "conv_kernel_size": _pick(0, 3),
    },
    "swin": {
        "embed_dim": lambda rng, drawn: drawn["hidden_size"],
        "depths": lambda rng, drawn: [rng.randint(1, 3) for _ in range(3)],
        "num_heads": lambda rng, drawn: [drawn["num_attention_heads"]] * 3,
        "window_size": _pick(2, 4),
        "use_absolute_embeddings": _flag,
        "image_size": _pick(32, 64),
        "patch_size": _pick(2, 4),
    },
    "llama4_vision_model": {"image_size": _pick(32, 48)},
    "idefics3_vision": {"image_size": _pick(32, 48)},
    "smolvlm_vision": {"image_size": _pick(32, 48)},
    "clip_vision_model": {"image_size": _pick(32, 48)},
    "siglip_vision_model": {"image_size": _pick(32, 48)},
    "beit": {"vocab_size": _pick(20)},
    "audio-spectrogram-transformer": {"patch_size": _pick(4, 8)},
    "resnet": {
        "embedding_size": _between(3, 9),
        "depths": lambda rng, drawn: [rng.randint(1, 3) for _ in range(3)],
        "hidden_sizes": lambda rng, drawn: [4 * rng.randint(1, 6) for _ in range(3)],
        "layer_type": _pick("basic", "bottleneck"),
        "downsample_in_first_stage": _flag,
        "downsample_in_bottleneck": _flag,
    },
    "convnext": {
        "num_stages": _pick(4),
        "depths": lambda rng, drawn: [rng.randint(1, 3) for _ in range(4)],
        "hidden_sizes": lambda rng, drawn: [4 * rng.randint(1, 6) for _ in range(4)],
    },
    "convnextv2": {
        "num_stages": _pick(4),
        "depths": lambda rng, drawn: [rng.randint(1, 3) for _ in range(4)],
        "hidden_sizes": lambda rng, drawn: [4 * rng.randint(1, 6) for _ in range(4)],
    },
    "mobilenet_v2": {
        "depth_multiplier": _pick(0.35, 0.5, 0.75, 1.0, 1.4),
        "expand_ratio": _pick(2.0, 6.0),
        "first_layer_is_expansion": _flag,
        "finegrained_output": _flag,
        "depth_divisible_by": _pick(4, 8),
        "hidden_act": _pick("relu6"),
    },
    "swinv2": {
        "embed_dim": lambda rng, drawn: drawn["hidden_size"],
        "depths": lambda rng, drawn: [rng.randint(1, 3) for _ in range(3)],
        "num_heads": lambda rng, drawn: [drawn["num_attention_heads"]] * 3,
        "window_size": _pick(2, 4),
        "mlp_ratio": _pick(2.0, 4.0),
        "pretrained_window_sizes": _pick([0, 0, 0]),
        "use_absolute_embeddings": _flag,
        "image_size": _pick(32, 64),
        "patch_size": _pick(2, 4),
    },
    "deberta": {"type_vocab_size": _pick(0, 2), "talking_head": _flag},
    "switch_transformers": {
        "num_layers": lambda rng, drawn: drawn["num_hidden_layers"],
        "num_decoder_layers": _between(1, 5),
        "num_sparse_encoder_layers": lambda rng, drawn: rng.randint(0, drawn["num_hidden_layers"]),
        "num_sparse_decoder_layers": _pick(0, 1),
    },
    "efficientnet": {
        "width_coefficient": _pick(1.0),
        "depth_coefficient": _pick(0.5, 1.0, 1.4),
        "depth_divisor": _pick(8),
        "hidden_dim": _pick(1280),
        "in_channels": _pick([32, 16, 24]),
        "out_channels": _pick([16, 24, 40]),
        "strides": _pick([1, 2, 2]),
        "kernel_sizes": _pick([3, 5, 3], [3, 3, 5]),
        "num_block_repeats": lambda rng, drawn: [rng.randint(1, 3) for _ in range(3)],
        "expand_ratios": lambda rng, drawn: [rng.choice([1, 2, 6]) for _ in range(3)],
        "squeeze_expansion_ratio": _pick(0.25, 0.5),
    },
    "opt": {"word_embed_proj_dim": lambda rng, drawn: None},
    "deepseek_v32": {"q_lora_rank": _between(2, 12), "layer_types": lambda rng, drawn: None},
}
"""Where a model type takes other values than most."""


def draw(model_type: str, rng: random.Random) -> dict[str, Any]:
    """A small configuration; of the keys of its class some are left out at random where their default is small."""
    entry = defaults_of(model_type)
    drawn: dict[str, Any] = {}
    special = ONLY.get(model_type, {})
    for key, make in BASE.items():
        drawn[key] = special.get(key, make)(rng, drawn)
    named = {entry.aliases.get(key, key): value for key, value in drawn.items()}
    for key in entry.values:
        known = next((name for name, actual in entry.aliases.items() if actual == key and name in BY_KEY), key)
        make = special.get(key) or special.get(known) or BY_KEY.get(key) or BY_KEY.get(known)
        if make is not None and (key not in named or key in special):
            named[key] = make(rng, drawn)
    for key, child in entry.children.items():
        named[key] = _nested(child.model_type, rng) if not child.fixed else draw(child.model_type, rng)
    named.update({key: make(rng, drawn) for key, make in special.items() if key not in entry.values and key not in BASE})
    kept = {key: value for key, value in named.items() if key in entry.values or key in special or key in entry.children}
    return {"model_type": model_type, "pad_token_id": 0, **kept}


def _nested(model_type: str, rng: random.Random) -> dict[str, Any]:
    """A configuration inside another one, with its own random type where several fit."""
    return draw(rng.choice(NESTED.get(model_type, (model_type,))), rng)


NESTED: dict[str, tuple[str, ...]] = {
    "llama": ("llama", "mistral", "qwen2", "qwen3", "gemma2"),
    "qwen2": ("qwen2", "qwen3", "llama"),
}
