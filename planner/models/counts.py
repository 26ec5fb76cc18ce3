"""Exact counts of a model: parameters, forward FLOPs and saved activations, per layer, stack and sample.

The parameter counts are a contract with whoever builds the modules (``workers/training/models``); they hold term by term:

- one token embedding ``[vocab_size, hidden_size]``, shared by all stacks;
- learned positions: one table ``[max_positions, hidden_size]`` **per stack**; rotary and sinusoidal positions have no parameters;
- a layer is pre-norm: norm, self-attention (q, k, v, o), then, where the stack has it, norm, cross-attention (q, k, v, o; the
same
  head counts and biases as the self-attention), then norm and feed-forward;
- ``qkv_bias`` adds a bias to each of q, k, v; ``output_bias`` to o; the feed-forward ``bias`` to each of its matrices;
- a norm has ``hidden_size`` weights, and as many biases for a layer norm with ``norm_bias`` (an RMS norm has none);
- one final norm per stack, of that stack's kind;
- the head ``[hidden_size, vocab_size]`` has no bias; with tied embeddings it is the embedding itself and adds nothing.

FLOPs count a multiply-add as two. Sources, as cited in ``docs/strategies.md``: [M] the FLOP counter of Megatron-LM's
``training.py``; [K22] arXiv 2205.05198.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from trimtab.model import AttentionSpec, FeedForwardSpec, ModelSpec, NormKind, PositionKind, StackRole, StackSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParameters:
    """Parameters of one layer, block by block. ``norms`` are all norms of the layer together."""

    attention: int
    cross_attention: int
    feed_forward: int
    norms: int

    @property
    def matrices(self) -> int:
        """Parameters of the blocks that tensor parallelism divides."""
        return self.attention + self.cross_attention + self.feed_forward

    @property
    def total(self) -> int:
        """All parameters of the layer."""
        return self.matrices + self.norms


@dataclass(frozen=True, slots=True, kw_only=True)
class StackParameters:
    """Parameters of one stack: ``num_layers`` times ``layer``, learned positions and the final norm."""

    role: StackRole
    layer: LayerParameters
    num_layers: int
    positions: int
    final_norm: int

    @property
    def total(self) -> int:
        """All parameters of the stack."""
        return self.layer.total * self.num_layers + self.positions + self.final_norm


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParameters:
    """Parameters of a model. ``head`` is 0 where the embedding is tied."""

    embedding: int
    head: int
    stacks: tuple[StackParameters, ...]

    @property
    def total(self) -> int:
        """All trainable parameters."""
        return self.embedding + self.head + sum(stack.total for stack in self.stacks)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFlops:
    """Forward FLOPs of one layer for one sample, block by block; the scores are q k^T and the weighted sum of v."""

    projections: float
    scores: float
    cross_projections: float
    cross_scores: float
    feed_forward: float

    @property
    def total(self) -> float:
        """Forward FLOPs of the layer."""
        return self.projections + self.scores + self.cross_projections + self.cross_scores + self.feed_forward


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFlops:
    """Forward FLOPs of one sample: one entry per stack (all its layers) and the head."""

    stacks: tuple[float, ...]
    head: float

    @property
    def forward(self) -> float:
        """One forward pass."""
        return sum(self.stacks) + self.head

    @property
    def training(self) -> float:
        """Forward and backward: three times the forward pass [M]; recompute is not counted."""
        return 3.0 * self.forward


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationCount:
    """Elements per token that one layer keeps for its backward pass.

    ``whole`` elements are as wide as the residual stream (divided by tensor parallelism only with sequence parallelism);
    ``divided`` ones are heads and feed-forward columns, always divided by it. ``source`` elements belong to the encoder's
    tokens (keys and values of a cross-attention). ``input`` is what full recompute keeps: the layer's input.
    """

    input: int
    whole: int
    divided: int
    source: int


def model_parameters(model: ModelSpec) -> ModelParameters:
    """Exact parameter count of a model, part by part."""
    return _model_parameters(model)


@lru_cache(maxsize=256)
def _model_parameters(model: ModelSpec) -> ModelParameters:
    embedding = model.vocab_size * model.hidden_size
    learned = model.position is PositionKind.LEARNED
    return ModelParameters(
        embedding=embedding,
        head=0 if model.tied_embeddings else embedding,
        stacks=tuple(
            StackParameters(
                role=stack.role,
                layer=layer_parameters(model, stack),
                num_layers=stack.num_layers,
                positions=model.max_positions * model.hidden_size if learned else 0,
                final_norm=_norm_parameters(model, stack),
            )
            for stack in model.stacks
        ),
    )


def layer_parameters(model: ModelSpec, stack: StackSpec) -> LayerParameters:
    """Exact parameter count of one layer of a stack."""
    attention = _attention_parameters(model.hidden_size, stack.attention)
    num_norms = 3 if stack.cross_attention else 2
    return LayerParameters(
        attention=attention,
        cross_attention=attention if stack.cross_attention else 0,
        feed_forward=_feed_forward_parameters(model.hidden_size, stack.feed_forward),
        norms=num_norms * _norm_parameters(model, stack),
    )


def layers_in_order(model: ModelSpec) -> tuple[StackSpec, ...]:
    """One entry per layer, encoder first: the order in which ``Strategy.stage_layers`` cuts the model."""
    return tuple(stack for stack in model.stacks for _ in range(stack.num_layers))


def stack_tokens(stack: StackSpec, *, sequence_length: int, source_length: int) -> int:
    """Tokens of one sample that pass through a stack."""
    return source_length if stack.role is StackRole.ENCODER else sequence_length


def attention_span(stack: StackSpec, *, num_tokens: int) -> float:
    """Mean number of keys that a query is multiplied with in a self-attention over ``num_tokens`` tokens.

    Full attention: all of them. Causal: half of them [M]. With a window of W positions back (and as many ahead where the stack is
    not causal), s is replaced by min(s, 2 W) [M].
    """
    window = stack.attention.window
    effective = num_tokens if window is None else min(num_tokens, 2 * window)
    return effective / 2.0 if stack.causal else float(effective)


def layer_flops(model: ModelSpec, stack: StackSpec, *, sequence_length: int, source_length: int) -> LayerFlops:
    """Forward FLOPs of one layer for one sample [M]; a cross-attention projects the encoder's output to keys and values."""
    tokens = stack_tokens(stack, sequence_length=sequence_length, source_length=source_length)
    heads = stack.attention
    query_and_output = 4.0 * model.hidden_size * heads.num_heads * heads.head_size
    key_and_value = 4.0 * model.hidden_size * heads.num_kv_heads * heads.head_size
    score = 4.0 * heads.num_heads * heads.head_size
    matrices = 3 if stack.feed_forward.gated else 2
    return LayerFlops(
        projections=tokens * (query_and_output + key_and_value),
        scores=tokens * score * attention_span(stack, num_tokens=tokens),
        cross_projections=(tokens * query_and_output + source_length * key_and_value) if stack.cross_attention else 0.0,
        cross_scores=tokens * score * source_length if stack.cross_attention else 0.0,
        feed_forward=tokens * 2.0 * matrices * model.hidden_size * stack.feed_forward.hidden_size,
    )


def head_flops(model: ModelSpec, *, sequence_length: int) -> float:
    """Forward FLOPs of the logits of one sample: 2 h V per token of the decoder [M]."""
    return 2.0 * model.hidden_size * model.vocab_size * sequence_length


def sample_flops(model: ModelSpec, *, sequence_length: int, source_length: int = 0) -> SampleFlops:
    """Forward FLOPs of one sample through all stacks and the head."""
    return SampleFlops(
        stacks=tuple(
            stack.num_layers * layer_flops(model, stack, sequence_length=sequence_length, source_length=source_length).total
            for stack in model.stacks
        ),
        head=head_flops(model, sequence_length=sequence_length),
    )


def layer_activations(model: ModelSpec, stack: StackSpec, *, fused_gate: bool = False) -> ActivationCount:
    """Elements that one layer keeps per token for the backward pass, without any recompute and with fused attention scores.

    Kept per block: the residual stream that enters the norm and the norm's output (2 h); q, k, v, the attention output and one
    softmax statistic per head; the feed-forward's hidden columns: input and output of the activation, and for a gated block
    also the second factor and the product (``fused_gate``: the activation is computed again, so 3 f instead of 4 f).
    Term by term as [K22] section 4 does it for the classic block.
    """
    heads, width = stack.attention, model.hidden_size
    queries = heads.num_heads * heads.head_size
    keys = heads.num_kv_heads * heads.head_size
    num_blocks = 3 if stack.cross_attention else 2
    columns = (3 if fused_gate else 4) if stack.feed_forward.gated else 2
    attention = 2 * queries + 2 * keys + heads.num_heads
    cross = 2 * queries + heads.num_heads if stack.cross_attention else 0
    return ActivationCount(
        input=width,
        whole=num_blocks * 2 * width,
        divided=attention + cross + columns * stack.feed_forward.hidden_size,
        source=2 * keys if stack.cross_attention else 0,
    )


def _attention_parameters(hidden_size: int, attention: AttentionSpec) -> int:
    queries = attention.num_heads * attention.head_size
    keys = attention.num_kv_heads * attention.head_size
    weights = 2 * hidden_size * queries + 2 * hidden_size * keys
    return weights + (queries + 2 * keys) * attention.qkv_bias + hidden_size * attention.output_bias


def _feed_forward_parameters(hidden_size: int, block: FeedForwardSpec) -> int:
    inner = 2 if block.gated else 1
    weights = (inner + 1) * hidden_size * block.hidden_size
    return weights + (inner * block.hidden_size + hidden_size) * block.bias


def _norm_parameters(model: ModelSpec, stack: StackSpec) -> int:
    has_bias = stack.norm is NormKind.LAYER and stack.norm_bias
    return model.hidden_size * (2 if has_bias else 1)
