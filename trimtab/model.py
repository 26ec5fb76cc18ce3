"""What a model is made of, independent of any framework.

A model is a sequence of stacks. A stack is a run of equal layers: an attention block, an optional cross-attention block and a
feed-forward block, dense or of experts. Layers of several kinds (dense ones before those of experts, local and global attention)
are several stacks of one role. Beside the stacks there are embeddings, a head, and **parts**: whatever else has parameters
(patch and audio convolutions, poolers, the blocks of a convolutional network), each counted as a whole. This is enough to count
parameters, FLOPs, bytes and activations per layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ModelFamily(StrEnum):
    """The arrangement of the stacks."""

    DECODER = "decoder"
    ENCODER = "encoder"
    ENCODER_DECODER = "encoder-decoder"
    CONVOLUTIONAL = "convolutional"


class StackRole(StrEnum):
    """What a stack does. A tower (vision, audio) makes tokens that enter the decoder's sequence."""

    TOWER = "tower"
    ENCODER = "encoder"
    DECODER = "decoder"


class PartPlace(StrEnum):
    """Whether a part runs before the stacks or after them."""

    BEFORE = "before"
    AFTER = "after"


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
class LatentSpec:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): queries and keys-values through low ranks.

    ``query_rank`` is None where queries are projected in one step. Each head has ``head_size`` (of the ``AttentionSpec``)
    elements without positions and ``rope_size`` with; the rotary part of the key is shared by the heads. ``value_size`` is a
    head's value.
    """

    kv_rank: int
    rope_size: int
    value_size: int
    query_rank: int | None = None

    def __post_init__(self) -> None:
        if min(self.kv_rank, self.value_size) < 1 or self.rope_size < 0 or (self.query_rank is not None and self.query_rank < 1):
            raise ValueError("kv_rank, value_size and query_rank must be at least 1, rope_size at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """Multi-head attention. ``num_kv_heads`` below ``num_heads`` is grouped-query, 1 is multi-query attention.

    ``window`` is the number of tokens that a query sees back (sliding-window attention); ``latent`` makes it latent attention.
    """

    num_heads: int
    num_kv_heads: int
    head_size: int
    qkv_bias: bool = False
    output_bias: bool = False
    window: int | None = None
    latent: LatentSpec | None = None

    def __post_init__(self) -> None:
        if min(self.num_heads, self.num_kv_heads, self.head_size) < 1:
            raise ValueError("num_heads, num_kv_heads and head_size must be at least 1")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} must be a multiple of num_kv_heads {self.num_kv_heads}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsSpec:
    """A mixture of experts: a router sends each token to ``top_k`` of ``num_experts`` equal feed-forward blocks.

    ``shared_size`` is the width of what every token passes beside them (all shared experts together, 0: none); ``router_bias``
    adds one parameter per expert; ``shared_gate`` a ``[hidden_size, 1]`` gate of the shared part.
    """

    num_experts: int
    top_k: int
    shared_size: int = 0
    router_bias: bool = False
    shared_gate: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.num_experts:
            raise ValueError(f"top_k {self.top_k} must lie between 1 and num_experts {self.num_experts}")
        if self.shared_size < 0:
            raise ValueError("shared_size must be at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForwardSpec:
    """Feed-forward block; ``gated`` has three matrices (SwiGLU), otherwise two.

    ``hidden_size`` is its width, or with ``experts`` the width of each expert.
    """

    hidden_size: int
    gated: bool = True
    activation: ActivationKind = ActivationKind.SILU
    bias: bool = False
    experts: ExpertsSpec | None = None

    def __post_init__(self) -> None:
        if self.hidden_size < 1:
            raise ValueError("feed-forward hidden_size must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSpec:
    """``num_layers`` equal layers. ``cross_attention`` reads the encoder's output (decoder of an encoder-decoder only).

    ``hidden_size`` is the width of the stack where it is not the model's. ``num_tokens`` are the tokens of one sample that pass
    it where they do not come from the workload (patches of an image, frames of a recording). ``num_norms`` per layer is 2, or 3
    with cross-attention, where it is None. ``final_norm`` follows the last layer (of a run of stacks of one role only the last
    has it). ``alternates``: its layers are mixed evenly with those of the stack before it. ``other_parameters`` of each layer
    belong to no matrix: norms of queries and keys, scales, relative positions.
    """

    role: StackRole
    num_layers: int
    attention: AttentionSpec
    feed_forward: FeedForwardSpec
    norm: NormKind = NormKind.RMS
    norm_bias: bool = False
    causal: bool = True
    cross_attention: bool = False
    hidden_size: int | None = None
    num_tokens: int | None = None
    num_norms: int | None = None
    final_norm: bool = True
    other_parameters: int = 0
    alternates: bool = False

    def __post_init__(self) -> None:
        if self.num_layers < 1:
            raise ValueError("num_layers must be at least 1")
        if min(self.other_parameters, self.num_norms or 0) < 0 or min(self.hidden_size or 1, self.num_tokens or 1) < 1:
            raise ValueError("hidden_size and num_tokens must be at least 1, num_norms and other_parameters at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSpec:
    """Something with parameters that is no layer of a stack, with its forward FLOPs and what it keeps for its backward pass.

    FLOPs and kept activations (elements) are per token of the sequence or per sample. ``is_matrix``: its parameters are weights
    of matrix multiplications or convolutions (sharded, but never divided by tensor parallelism), not a table or a bias.
    """

    name: str
    num_parameters: int
    place: PartPlace = PartPlace.BEFORE
    flops_per_token: float = 0.0
    flops_per_sample: float = 0.0
    activations_per_token: float = 0.0
    activations_per_sample: float = 0.0
    is_matrix: bool = True

    def __post_init__(self) -> None:
        figures = (self.flops_per_token, self.flops_per_sample, self.activations_per_token, self.activations_per_sample)
        if self.num_parameters < 0 or min(figures) < 0:
            raise ValueError(f"part {self.name}: num_parameters, FLOPs and activations must be at least 0")


_ROLES = {
    ModelFamily.DECODER: (StackRole.TOWER, StackRole.DECODER),
    ModelFamily.ENCODER: (StackRole.ENCODER,),
    ModelFamily.ENCODER_DECODER: (StackRole.ENCODER, StackRole.DECODER),
    ModelFamily.CONVOLUTIONAL: (),
}
_REQUIRED = {
    ModelFamily.DECODER: (StackRole.DECODER,),
    ModelFamily.ENCODER: (StackRole.ENCODER,),
    ModelFamily.ENCODER_DECODER: (StackRole.ENCODER, StackRole.DECODER),
    ModelFamily.CONVOLUTIONAL: (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model. ``vocab_size`` counts embedding rows (0: no token embedding); ``max_positions`` bounds learned positions.

    ``has_head``: the last stack's output is multiplied with ``[hidden_size, vocab_size]``; with ``tied_embeddings`` that matrix
    is the embedding. Stacks stand in the order in which they run, those of one role next to each other. ``traits`` names, in
    words, what the model does beyond this description without changing a count (parallel blocks, scaled embeddings, positions
    that turn a part of each head): whoever builds modules from a ``ModelSpec`` refuses the traits that it does not make.
    """

    name: str
    family: ModelFamily
    hidden_size: int
    vocab_size: int
    stacks: tuple[StackSpec, ...]
    position: PositionKind = PositionKind.ROTARY
    max_positions: int = 2048
    tied_embeddings: bool = True
    has_head: bool = True
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5
    parts: tuple[PartSpec, ...] = ()
    traits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.hidden_size < 1 or self.vocab_size < 0:
            raise ValueError("hidden_size must be at least 1 and vocab_size at least 0")
        if self.vocab_size < 1 and self.family in (ModelFamily.DECODER, ModelFamily.ENCODER_DECODER) and not self.parts:
            raise ValueError("vocab_size must be at least 1")
        order = _ROLES[self.family]
        roles = tuple(stack.role for stack in self.stacks)
        in_order = tuple(role for role in order for stack in self.stacks if stack.role is role)
        if roles != in_order or not set(_REQUIRED[self.family]) <= set(roles):
            raise ValueError(
                f"a model of family {self.family} has stacks of the roles {[str(role) for role in order]}, in that order"
            )
        if not self.stacks and not self.parts:
            raise ValueError("a model has at least one stack or part")

    @property
    def num_layers(self) -> int:
        """Layers of all stacks."""
        return sum(stack.num_layers for stack in self.stacks)

    def stack(self, role: StackRole) -> StackSpec:
        """The first stack of that role; raises KeyError where the model has none."""
        for stack in self.stacks:
            if stack.role is role:
                return stack
        raise KeyError(str(role))

    def width(self, stack: StackSpec) -> int:
        """The residual width of one of its stacks."""
        return stack.hidden_size or self.hidden_size
