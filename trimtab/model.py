"""What a model is made of, independent of any framework.

A model is one or more stacks of equal layers (encoder, decoder), each layer an attention block, an optional cross-attention block
and a feed-forward block, plus embeddings and a head. This is enough to count parameters, FLOPs, bytes and activations per layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ModelFamily(StrEnum):
    """The arrangement of the stacks."""

    DECODER = "decoder"
    ENCODER_DECODER = "encoder-decoder"


class StackRole(StrEnum):
    """What a stack does."""

    ENCODER = "encoder"
    DECODER = "decoder"


class PositionKind(StrEnum):
    """How positions enter."""

    ROTARY = "rotary"
    LEARNED = "learned"
    SINUSOIDAL = "sinusoidal"
    NONE = "none"


class NormKind(StrEnum):
    """Normalisation layer."""

    RMS = "rms"
    LAYER = "layer"


class ActivationKind(StrEnum):
    """Feed-forward activation."""

    SILU = "silu"
    GELU = "gelu"
    RELU = "relu"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """Multi-head attention. ``num_kv_heads`` below ``num_heads`` is grouped-query, 1 is multi-query attention."""

    num_heads: int
    num_kv_heads: int
    head_size: int
    qkv_bias: bool = False
    output_bias: bool = False
    window: int | None = None

    def __post_init__(self) -> None:
        if min(self.num_heads, self.num_kv_heads, self.head_size) < 1:
            raise ValueError("num_heads, num_kv_heads and head_size must be at least 1")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} must be a multiple of num_kv_heads {self.num_kv_heads}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForwardSpec:
    """Dense feed-forward block; ``gated`` has three matrices (SwiGLU), otherwise two."""

    hidden_size: int
    gated: bool = True
    activation: ActivationKind = ActivationKind.SILU
    bias: bool = False

    def __post_init__(self) -> None:
        if self.hidden_size < 1:
            raise ValueError("feed-forward hidden_size must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSpec:
    """``num_layers`` equal layers. ``cross_attention`` reads the encoder's output (decoder of an encoder-decoder only)."""

    role: StackRole
    num_layers: int
    attention: AttentionSpec
    feed_forward: FeedForwardSpec
    norm: NormKind = NormKind.RMS
    norm_bias: bool = False
    causal: bool = True
    cross_attention: bool = False

    def __post_init__(self) -> None:
        if self.num_layers < 1:
            raise ValueError("num_layers must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model. ``vocab_size`` counts embedding rows; ``max_positions`` bounds the sequence length of learned positions."""

    name: str
    family: ModelFamily
    hidden_size: int
    vocab_size: int
    stacks: tuple[StackSpec, ...]
    position: PositionKind = PositionKind.ROTARY
    max_positions: int = 2048
    tied_embeddings: bool = True
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.hidden_size < 1 or self.vocab_size < 1:
            raise ValueError("hidden_size and vocab_size must be at least 1")
        roles = tuple(stack.role for stack in self.stacks)
        wanted = {
            ModelFamily.DECODER: (StackRole.DECODER,),
            ModelFamily.ENCODER_DECODER: (StackRole.ENCODER, StackRole.DECODER),
        }[self.family]
        if roles != wanted:
            raise ValueError(f"a model of family {self.family} has the stacks {[str(r) for r in wanted]}")

    @property
    def num_layers(self) -> int:
        """Layers of all stacks."""
        return sum(stack.num_layers for stack in self.stacks)

    def stack(self, role: StackRole) -> StackSpec:
        """The stack of that role; raises KeyError where the model has none."""
        for stack in self.stacks:
            if stack.role is role:
                return stack
        raise KeyError(str(role))
