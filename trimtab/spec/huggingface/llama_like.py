"""Decoders with rotary positions and gated blocks: Llama and what was made after it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trimtab.model import AttentionSpec, NormKind
from trimtab.spec.huggingface.config import Config
from trimtab.spec.huggingface.decoders import DECODER_HEADS, Decoder, Extra, decoder_rule
from trimtab.spec.huggingface.heads import Head, Rule
from trimtab.spec.huggingface.layers import (
    late_windows,
    one_window,
    windows_but_every,
    windows_by_type,
)

_SCALED = "scaled embeddings"
_PARTIAL = "rotary positions in a part of each head"
_PARALLEL = "attention and feed-forward block in parallel"
_AFTER = "norms after the blocks"
_CAPPED = "soft-capped logits"


def per_head(config: Config, attention: AttentionSpec) -> int:
    """One RMS norm for the queries of all heads and one for the keys, each as wide as a head."""
    return 2 * attention.head_size


def per_width(config: Config, attention: AttentionSpec) -> int:
    """RMS norms over all queries and over all keys."""
    return (attention.num_heads + attention.num_kv_heads) * attention.head_size


def where(key: str, extra: Extra) -> Extra:
    """Those parameters only where the config's flag is set."""
    return lambda config, attention: extra(config, attention) if config.flag(key) else 0


def _head_norms_with_bias(config: Config, attention: AttentionSpec) -> int:
    return 4 * (config.count("hidden_size") // config.count("num_attention_heads"))


def _square_output(config: Config, attention: AttentionSpec) -> int:
    hidden, inner = config.count("hidden_size"), attention.num_heads * attention.head_size
    config.require(inner <= hidden, "head_dim", f"found {attention.head_size}", allowed="hidden_size / num_attention_heads")
    return max(0, hidden - inner) * hidden


def _bitnet_norms(config: Config, attention: AttentionSpec) -> int:
    return config.count("hidden_size") + config.count("intermediate_size")


def _differential(config: Config, attention: AttentionSpec) -> int:
    return 4 * attention.head_size


def _xielu(config: Config, attention: AttentionSpec) -> int:
    return 2 * attention.head_size + (2 if config.get("hidden_act") == "xielu" else 0)


_ATTENTION = "attention_bias"
_LAYER: dict[str, object] = {"norm": NormKind.LAYER, "norm_bias": True}
_GEMMA = {"qkv_bias": _ATTENTION, "output_bias": _ATTENTION}


def _one_norm_if_parallel(config: Config) -> int:
    return 1 if config.flag("use_parallel_residual") else 2


LLAMA = Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION, mlp_bias="mlp_bias")
_PLAIN = Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION)

_ROWS: Mapping[str, tuple[str, Decoder, str]] = {
    "llama": ("Llama", LLAMA, "q, k, v, o; gate, up, down; 2 RMS norms; biases by attention_bias and mlp_bias"),
    "mistral": ("Mistral", Decoder(windows=one_window), "Llama without biases; sliding_window in all layers"),
    "ministral": ("Ministral", Decoder(windows=windows_by_type), "Llama without biases; windows by layer_types"),
    "ministral3": ("Ministral3", Decoder(windows=one_window), "Llama without biases"),
    "qwen2": ("Qwen2", Decoder(qkv_bias=True, windows=late_windows), "biases in q, k, v and not in o"),
    "qwen2_vl_text": ("Qwen2VLText", Decoder(qkv_bias=True, windows=late_windows), "Qwen2"),
    "qwen2_5_vl_text": ("Qwen2_5_VLText", Decoder(qkv_bias=True, windows=late_windows), "Qwen2"),
    "qwen3_vl_text": ("Qwen3VLText", Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION, further=per_head), "Qwen3"),
    "qwen3": (
        "Qwen3",
        Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION, further=per_head, windows=late_windows),
        "norms of queries and keys as wide as a head; head_dim of its own",
    ),
    "gemma": ("Gemma", Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION, traits=(_SCALED,)), "Llama with head_dim of its own"),
    "gemma2": (
        "Gemma2",
        Decoder(
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            num_norms=4,
            windows=windows_but_every(2),
            activation_key="hidden_activation",
            traits=(_SCALED, _AFTER, _CAPPED),
        ),
        "4 RMS norms a layer, before and after each block",
    ),
    "gemma3_text": (
        "Gemma3",
        Decoder(
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            num_norms=4,
            further=per_head,
            windows=windows_but_every(6),
            activation_key="hidden_activation",
            traits=(_SCALED, _AFTER),
        ),
        "Gemma 2 with norms of queries and keys as wide as a head",
    ),
    "vaultgemma": (
        "VaultGemma",
        Decoder(
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            windows=windows_but_every(2),
            activation_key="hidden_activation",
            traits=(_SCALED, _CAPPED),
        ),
        "Gemma 2 with 2 norms",
    ),
    "phi3": ("Phi3", Decoder(windows=one_window, traits=(_PARTIAL,)), "q, k, v in one matrix, gate and up in one; no biases"),
    "phi": (
        "Phi",
        Decoder(
            qkv_bias=True,
            output_bias=True,
            mlp_bias=True,
            gated=False,
            norm=NormKind.LAYER,
            norm_bias=True,
            num_norms=1,
            further=where("qk_layernorm", _head_norms_with_bias),
            head_bias=True,
            traits=(_PARALLEL, _PARTIAL),
        ),
        "one layer norm before parallel blocks; biases everywhere, in the head too",
    ),
    "stablelm": (
        "StableLm",
        Decoder(
            qkv_bias="use_qkv_bias",
            norm=NormKind.LAYER,
            norm_bias=True,
            num_norms=_one_norm_if_parallel,
            further=where("qk_layernorm", per_width),
            traits=(_PARTIAL,),
        ),
        "layer norms; with use_parallel_residual one of them; a norm per head with qk_layernorm",
    ),
    "persimmon": (
        "Persimmon",
        Decoder(
            qkv_bias=True,
            output_bias=True,
            mlp_bias=True,
            gated=False,
            norm=NormKind.LAYER,
            norm_bias=True,
            further=where("qk_layernorm", _head_norms_with_bias),
            traits=(_PARTIAL,),
        ),
        "q, k, v in one matrix, biases everywhere, norms of queries and keys with biases",
    ),
    "starcoder2": (
        "Starcoder2",
        Decoder(
            qkv_bias="use_bias",
            output_bias="use_bias",
            mlp_bias="use_bias",
            gated=False,
            norm=NormKind.LAYER,
            norm_bias=True,
            windows=one_window,
        ),
        "block of two matrices, layer norms, biases by use_bias",
    ),
    "olmo": (
        "Olmo",
        Decoder(
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            norm=NormKind.LAYER,
            num_norms=0,
            final_norm=False,
            traits=("norms without weights",),
        ),
        "norms without weights",
    ),
    "olmo2": (
        "Olmo2",
        Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION, further=per_width, traits=(_AFTER,)),
        "norms after the blocks; norms over all queries and over all keys",
    ),
    "olmo3": (
        "Olmo3",
        Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION, further=per_width, windows=windows_but_every(4), traits=(_AFTER,)),
        "OLMo 2 with sliding windows",
    ),
    "cohere": (
        "Cohere",
        Decoder(
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            norm=NormKind.LAYER,
            num_norms=1,
            further=where("use_qk_norm", per_width),
            traits=(_PARALLEL,),
        ),
        "one layer norm without bias before parallel blocks; a norm per head with use_qk_norm",
    ),
    "cohere2": (
        "Cohere2",
        Decoder(
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            norm=NormKind.LAYER,
            num_norms=1,
            windows=windows_but_every(4),
            traits=(_PARALLEL,),
        ),
        "one layer norm without bias before parallel blocks",
    ),
    "granite": (
        "Granite",
        Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION, mlp_bias="mlp_bias", traits=("scaled residuals",)),
        "as Llama",
    ),
    "glm": ("Glm", Decoder(qkv_bias=_ATTENTION, traits=(_PARTIAL,)), "biases in q, k, v by attention_bias and not in o"),
    "glm4": ("Glm4", Decoder(qkv_bias=_ATTENTION, num_norms=4, traits=(_PARTIAL, _AFTER)), "GLM with 4 RMS norms a layer"),
    "helium": (
        "Helium",
        Decoder(qkv_bias=_ATTENTION, mlp_bias="mlp_bias", further=_square_output),
        "Llama without a bias in o, which is as wide as the model on both sides",
    ),
    "hyperclovax": (
        "HyperCLOVAX",
        Decoder(
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            mlp_bias="mlp_bias",
            num_norms=lambda config: 4 if config.flag("use_post_norm") else 2,
            traits=("scaled residuals",),
        ),
        "4 RMS norms a layer with use_post_norm",
    ),
    "granite_swa": (
        "GraniteSWA",
        Decoder(
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            mlp_bias="mlp_bias",
            further=lambda config, attention: attention.num_heads,
            windows=windows_but_every(4, first=True),
            traits=("scaled residuals", "attention sinks"),
        ),
        "Granite with one sink per head",
    ),
    "nanochat": (
        "NanoChat",
        Decoder(
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            gated=False,
            num_norms=0,
            final_norm=False,
            traits=("norms without weights", _CAPPED),
        ),
        "block of two matrices, norms without weights",
    ),
    "exaone": ("Llama", LLAMA, "as Llama"),
    "internlm3": ("Llama", LLAMA, "as Llama"),
    "iquestcoder": ("Llama", LLAMA, "as Llama"),
    "smollm3": (
        "SmolLM3",
        Decoder(
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            mlp_bias="mlp_bias",
            windows=late_windows,
            traits=("layers without positions",),
        ),
        "as Llama",
    ),
    "seed_oss": (
        "SeedOss",
        Decoder(qkv_bias=_ATTENTION, output_bias="attention_out_bias", mlp_bias="mlp_bias"),
        "biases in q, k, v by attention_bias, in o by attention_out_bias",
    ),
    "arcee": (
        "Arcee",
        Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION, mlp_bias="mlp_bias", gated=False),
        "Llama with a block of two matrices",
    ),
    "apertus": (
        "Apertus",
        Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION, gated=False, further=_xielu),
        "block of two matrices with two parameters of its activation; norms of queries and keys as wide as a head",
    ),
    "nemotron": (
        "Nemotron",
        Decoder(
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            mlp_bias="mlp_bias",
            gated=False,
            norm=NormKind.LAYER,
            norm_bias=True,
            traits=(_PARTIAL,),
        ),
        "block of two matrices, layer norms",
    ),
    "exaone4": (
        "Exaone4",
        Decoder(further=per_head, windows=windows_but_every(4), traits=(_AFTER,)),
        "norms after the blocks; norms of queries and keys as wide as a head",
    ),
    "ernie4_5": (
        "Ernie4_5",
        Decoder(qkv_bias="use_bias", output_bias="use_bias", mlp_bias="use_bias"),
        "Llama with biases by use_bias",
    ),
    "hunyuan_v1_dense": (
        "HunYuanDenseV1",
        Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION, further=per_head),
        "norms of queries and keys as wide as a head",
    ),
    "bitnet": (
        "BitNet",
        Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION, further=_bitnet_norms, traits=("norms inside the blocks",)),
        "further norms before o and before down",
    ),
    "cwm": ("Cwm", Decoder(mlp_bias="mlp_bias", windows=windows_but_every(4, first=True)), "Llama with sliding windows"),
    "jais2": (
        "Jais2",
        Decoder(
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            mlp_bias="mlp_bias",
            gated=False,
            norm=NormKind.LAYER,
            norm_bias=True,
        ),
        "block of two matrices, layer norms",
    ),
    "diffllama": (
        "DiffLlama",
        Decoder(qkv_bias=_ATTENTION, output_bias=_ATTENTION, further=_differential, traits=("differential attention",)),
        "four vectors as wide as a head in each attention",
    ),
}

TABLE: Mapping[str, Rule] = MappingProxyType(
    {
        model_type: decoder_rule(name, row, layout, heads=(Head.NONE,) if name.endswith("Text") else DECODER_HEADS)
        for model_type, (name, row, layout) in _ROWS.items()
    }
)
