"""Model presets: public configurations under the names that people know. Each entry says where its figures come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

from trimtab.model import (
    ActivationKind,
    AttentionSpec,
    FeedForwardSpec,
    ModelFamily,
    ModelSpec,
    NormKind,
    PositionKind,
    StackRole,
    StackSpec,
)
from trimtab.spec.huggingface import model_from_config
from trimtab.spec.published import PUBLISHED


def llama_3(name: str, *, layers: int, hidden: int, heads: int, feed_forward: int) -> ModelSpec:
    """A Llama 3 decoder: RMS norm, rotary positions, 8 key-value heads, gated feed-forward block, untied embeddings."""
    return ModelSpec(
        name=name,
        family=ModelFamily.DECODER,
        hidden_size=hidden,
        vocab_size=128_256,
        position=PositionKind.ROTARY,
        max_positions=8192,
        tied_embeddings=False,
        rope_theta=500_000.0,
        stacks=(
            StackSpec(
                role=StackRole.DECODER,
                num_layers=layers,
                attention=AttentionSpec(num_heads=heads, num_kv_heads=8, head_size=hidden // heads),
                feed_forward=FeedForwardSpec(hidden_size=feed_forward),
            ),
        ),
    )


def gpt2(name: str, *, layers: int, hidden: int, heads: int) -> ModelSpec:
    """A decoder with LayerNorm, learned positions, biases everywhere, GELU and tied embeddings."""
    return ModelSpec(
        name=name,
        family=ModelFamily.DECODER,
        hidden_size=hidden,
        vocab_size=50_257,
        position=PositionKind.LEARNED,
        max_positions=1024,
        tied_embeddings=True,
        stacks=(
            StackSpec(
                role=StackRole.DECODER,
                num_layers=layers,
                norm=NormKind.LAYER,
                norm_bias=True,
                attention=AttentionSpec(
                    num_heads=heads, num_kv_heads=heads, head_size=hidden // heads, qkv_bias=True, output_bias=True
                ),
                feed_forward=FeedForwardSpec(hidden_size=4 * hidden, gated=False, activation=ActivationKind.GELU, bias=True),
            ),
        ),
    )


_BY_HAND: Mapping[str, ModelSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            llama_3("llama-3-8b", layers=32, hidden=4096, heads=32, feed_forward=14336),
            llama_3("llama-3-70b", layers=80, hidden=8192, heads=64, feed_forward=28672),
            llama_3("llama-3-405b", layers=126, hidden=16384, heads=128, feed_forward=53248),
            gpt2("gpt2", layers=12, hidden=768, heads=12),
            gpt2("gpt2-medium", layers=24, hidden=1024, heads=16),
            gpt2("gpt2-large", layers=36, hidden=1280, heads=20),
            gpt2("gpt2-xl", layers=48, hidden=1600, heads=25),
        )
    }
)
"""Sources: arXiv 2407.21783 table 3 (Llama 3); the GPT-2 release's hyperparameter files."""


class Presets(Mapping[str, ModelSpec]):
    """Models by name; one that stands for a published ``config.json`` is read when it is asked for."""

    def __getitem__(self, name: str) -> ModelSpec:
        """The model of that name; raises KeyError."""
        return _BY_HAND[name] if name in _BY_HAND else _read(name)

    def __iter__(self) -> Iterator[str]:
        """All names."""
        yield from _BY_HAND
        yield from PUBLISHED

    def __len__(self) -> int:
        """How many there are."""
        return len(_BY_HAND) + len(PUBLISHED)


@lru_cache(maxsize=256)
def _read(name: str) -> ModelSpec:
    published = PUBLISHED[name]
    return model_from_config({"model_type": published.model_type, **published.values}, name=name)


PRESETS: Mapping[str, ModelSpec] = Presets()
