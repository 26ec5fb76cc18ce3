"""Published configurations by the names that people know: the values of their ``config.json`` that are not defaults.

They are read by the same reader as a file. Each comes from the ``config.json`` of the named repository on the Hugging Face hub,
convolutional networks from torchvision's model builders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Values of a ``config.json`` and where they were published."""

    model_type: str
    source: str
    values: Mapping[str, Any] = field(default_factory=dict)


def _of(model_type: str, source: str, **values: Any) -> Published:
    return Published(model_type=model_type, source=source, values=MappingProxyType(values))


def _shape(width: int, layers: int, heads: int, inner: int, **more: Any) -> dict[str, Any]:
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner}
    return {**shape, **more}


def _llama(width: int, layers: int, heads: int, inner: int) -> dict[str, Any]:
    own = {"num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 131_072, "rope_theta": 500_000.0}
    return _shape(width, layers, heads, inner, **own)


def _qwen(width: int, layers: int, heads: int, inner: int, **more: Any) -> dict[str, Any]:
    return _shape(width, layers, heads, inner, vocab_size=151_936, max_position_embeddings=40_960, head_dim=128, **more)


def _t5(width: int, layers: int, heads: int, inner: int) -> dict[str, Any]:
    return {"d_model": width, "num_layers": layers, "num_heads": heads, "d_ff": inner, "d_kv": 64, "vocab_size": 32_128}


def _whisper(width: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    sides = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in (
        ("layers", layers), ("attention_heads", heads), ("ffn_dim", 4 * width))}  # fmt: skip
    return {"d_model": width, **sides, **more}


def _resnet(depths: list[int], *, basic: bool = False) -> dict[str, Any]:
    widths = [64, 128, 256, 512] if basic else [256, 512, 1024, 2048]
    kind = "basic" if basic else "bottleneck"
    return {"depths": depths, "hidden_sizes": widths, "layer_type": kind, "num_labels": 1000}


def _convnext(depths: list[int], widths: list[int]) -> dict[str, Any]:
    return {"depths": depths, "hidden_sizes": widths, "num_labels": 1000}


def _vit(width: int, layers: int, heads: int, patch: int) -> dict[str, Any]:
    return _shape(width, layers, heads, 4 * width, patch_size=patch, num_labels=1000)


_CLIP_LARGE = {
    "projection_dim": 768,
    "text_config": _shape(768, 12, 12, 3072),
    "vision_config": _shape(1024, 24, 16, 4096, patch_size=14),
}
_DEEPSEEK_V2 = _shape(
    5120,
    60,
    128,
    12_288,
    num_key_value_heads=128,
    moe_intermediate_size=1536,
    n_routed_experts=160,
    n_shared_experts=2,
    num_experts_per_tok=6,
    first_k_dense_replace=1,
    vocab_size=102_400,
    max_position_embeddings=163_840,
)
_EFFICIENT_B0 = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224, "hidden_dim": 1280, "num_labels": 1000}
_LLAVA = {"text_config": {"model_type": "llama", **_shape(4096, 32, 32, 11_008), "vocab_size": 32_064}}

PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "llama-2-7b": _of("llama", "meta-llama/Llama-2-7b-hf", max_position_embeddings=4096),
        "llama-2-70b": _of("llama", "meta-llama/Llama-2-70b-hf", **_shape(8192, 80, 64, 28_672, num_key_value_heads=8)),
        "llama-3.1-8b": _of("llama", "meta-llama/Llama-3.1-8B", **_llama(4096, 32, 32, 14_336)),
        "llama-3.1-70b": _of("llama", "meta-llama/Llama-3.1-70B", **_llama(8192, 80, 64, 28_672)),
        "llama-3.1-405b": _of("llama", "meta-llama/Llama-3.1-405B", **_llama(16_384, 126, 128, 53_248)),
        "mistral-7b": _of("mistral", "mistralai/Mistral-7B-v0.1", max_position_embeddings=32_768),
        "mixtral-8x7b": _of("mixtral", "mistralai/Mixtral-8x7B-v0.1", max_position_embeddings=32_768),
        "mixtral-8x22b": _of("mixtral", "mistralai/Mixtral-8x22B-v0.1", **_shape(6144, 56, 48, 16_384)),
        "qwen2.5-7b": _of("qwen2", "Qwen/Qwen2.5-7B", **_shape(3584, 28, 28, 18_944, num_key_value_heads=4, vocab_size=152_064)),
        "qwen3-8b": _of("qwen3", "Qwen/Qwen3-8B", **_qwen(4096, 36, 32, 12_288, num_key_value_heads=8)),
        "qwen3-30b-a3b": _of(
            "qwen3_moe", "Qwen/Qwen3-30B-A3B", **_qwen(2048, 48, 32, 6144, num_key_value_heads=4, moe_intermediate_size=768)
        ),
        "qwen3-235b-a22b": _of(
            "qwen3_moe", "Qwen/Qwen3-235B-A22B", **_qwen(4096, 94, 64, 12_288, num_key_value_heads=4, moe_intermediate_size=1536)
        ),
        "deepseek-v2": _of("deepseek_v2", "deepseek-ai/DeepSeek-V2", **_DEEPSEEK_V2),
        "deepseek-v3": _of("deepseek_v3", "deepseek-ai/DeepSeek-V3", max_position_embeddings=163_840),
        "gpt-oss-20b": _of("gpt_oss", "openai/gpt-oss-20b", num_hidden_layers=24, num_local_experts=32),
        "gpt-oss-120b": _of("gpt_oss", "openai/gpt-oss-120b", num_hidden_layers=36, num_local_experts=128),
        "gemma-2-9b": _of("gemma2", "google/gemma-2-9b", **_shape(3584, 42, 16, 14_336, num_key_value_heads=8, head_dim=256)),
        "phi-3-mini": _of("phi3", "microsoft/Phi-3-mini-4k-instruct"),
        "gpt-neox-20b": _of("gpt_neox", "EleutherAI/gpt-neox-20b"),
        "falcon-7b": _of("falcon", "tiiuae/falcon-7b"),
        "bert-base": _of("bert", "google-bert/bert-base-uncased"),
        "bert-large": _of("bert", "google-bert/bert-large-uncased", **_shape(1024, 24, 16, 4096)),
        "roberta-base": _of(
            "roberta", "FacebookAI/roberta-base", vocab_size=50_265, max_position_embeddings=514, type_vocab_size=1
        ),
        "t5-small": _of("t5", "google-t5/t5-small", **_t5(512, 6, 8, 2048)),
        "t5-base": _of("t5", "google-t5/t5-base", **_t5(768, 12, 12, 3072)),
        "t5-large": _of("t5", "google-t5/t5-large", **_t5(1024, 24, 16, 4096)),
        "bart-large": _of("bart", "facebook/bart-large"),
        "vit-b-16": _of("vit", "google/vit-base-patch16-224", **_vit(768, 12, 12, 16)),
        "vit-l-16": _of("vit", "google/vit-large-patch16-224", **_vit(1024, 24, 16, 16)),
        "clip-vit-b-32": _of("clip", "openai/clip-vit-base-patch32"),
        "clip-vit-l-14": _of("clip", "openai/clip-vit-large-patch14", **_CLIP_LARGE),
        "llava-1.5-7b": _of("llava", "llava-hf/llava-1.5-7b-hf", **_LLAVA),
        "whisper-small": _of("whisper", "openai/whisper-small", **_whisper(768, 12, 12)),
        "whisper-large-v3": _of(
            "whisper", "openai/whisper-large-v3", **_whisper(1280, 32, 20, num_mel_bins=128, vocab_size=51_866)
        ),
        "wav2vec2-base": _of("wav2vec2", "facebook/wav2vec2-base-960h"),
        "resnet-18": _of("resnet", "torchvision resnet18", **_resnet([2, 2, 2, 2], basic=True)),
        "resnet-34": _of("resnet", "torchvision resnet34", **_resnet([3, 4, 6, 3], basic=True)),
        "resnet-50": _of("resnet", "torchvision resnet50", **_resnet([3, 4, 6, 3])),
        "resnet-101": _of("resnet", "torchvision resnet101", **_resnet([3, 4, 23, 3])),
        "resnet-152": _of("resnet", "torchvision resnet152", **_resnet([3, 8, 36, 3])),
        "convnext-tiny": _of("convnext", "torchvision convnext_tiny", **_convnext([3, 3, 9, 3], [96, 192, 384, 768])),
        "convnext-base": _of("convnext", "torchvision convnext_base", **_convnext([3, 3, 27, 3], [128, 256, 512, 1024])),
        "efficientnet-b0": _of("efficientnet", "torchvision efficientnet_b0", **_EFFICIENT_B0),
        "mobilenet-v2": _of("mobilenet_v2", "torchvision mobilenet_v2", num_labels=1000),
    }
)
