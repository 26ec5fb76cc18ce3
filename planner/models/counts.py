"""Exact counts of a model: parameters, forward FLOPs and saved activations, per layer, stack and sample.

The parameter counts are a contract with whoever builds the modules (``workers/training/models``); they hold term by term:

- one token embedding ``[vocab_size, hidden_size]``, shared by all stacks;
- learned positions: one table ``[max_positions, hidden_size]`` for each encoder and each decoder (a run of stacks of one role);
  towers bring theirs as parts; rotary and sinusoidal positions have no parameters;
- a layer is pre-norm: norm, self-attention (q, k, v, o), then, where the stack has it, norm, cross-attention (q, k, v, o; the
same
  head counts and biases as the self-attention), then norm and feed-forward;
- ``qkv_bias`` adds a bias to each of q, k, v; ``output_bias`` to o; the feed-forward ``bias`` to each of its matrices;
- latent attention: queries (through ``query_rank`` with a norm of that width, or in one step), the joint down-projection of keys
  and values with the shared rotary key, a norm of width ``kv_rank``, the up-projection, the output; a ``qkv_bias`` sits on the
  down-projections;
- a mixture of experts has the router ``[hidden_size, num_experts]``, its experts, and the shared block of ``shared_size``;
- a norm has as many weights as its stack is wide, and as many biases for a layer norm with ``norm_bias`` (an RMS norm has none);
- one final norm where the stack has it, of that stack's kind;
- the head ``[hidden_size, vocab_size]`` has no bias; with tied embeddings it is the embedding itself and adds nothing;
- parts count what they say.

FLOPs count a multiply-add as two. Sources, as cited in ``docs/strategies.md``: [M] the FLOP counter of Megatron-LM's
``training.py``; [K22] arXiv 2205.05198.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache

from trimtab.model import AttentionSpec, FeedForwardSpec, LatentSpec, ModelSpec, NormKind, PositionKind, StackRole, StackSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParameters:
    """Parameters of one layer, block by block.

    ``feed_forward`` is what every token passes: the dense block, or the router and the shared experts. ``experts`` are all routed
    ones. ``norms`` are all norms of the layer and its other small parameters.
    """

    attention: int
    cross_attention: int
    feed_forward: int
    norms: int
    experts: int = 0

    @property
    def matrices(self) -> int:
        """Parameters of the blocks that tensor parallelism divides."""
        return self.attention + self.cross_attention + self.feed_forward + self.experts

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
    """Parameters of a model. ``head`` is 0 where the embedding is tied. ``parts`` has one entry per part of the model."""

    embedding: int
    head: int
    stacks: tuple[StackParameters, ...]
    parts: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """All trainable parameters."""
        return self.embedding + self.head + sum(stack.total for stack in self.stacks) + sum(self.parts)

    @property
    def routed(self) -> int:
        """Parameters of routed experts."""
        return sum(stack.layer.experts * stack.num_layers for stack in self.stacks)


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
    parts: float = 0.0

    @property
    def forward(self) -> float:
        """One forward pass."""
        return sum(self.stacks) + self.head + self.parts

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
    return ModelParameters(
        embedding=embedding,
        head=embedding if model.has_head and not model.tied_embeddings else 0,
        parts=tuple(part.num_parameters for part in model.parts),
        stacks=tuple(
            StackParameters(
                role=stack.role,
                layer=layer_parameters(model, stack),
                num_layers=stack.num_layers,
                positions=_positions(model, index),
                final_norm=_norm_parameters(model, stack) if stack.final_norm else 0,
            )
            for index, stack in enumerate(model.stacks)
        ),
    )


def layer_parameters(model: ModelSpec, stack: StackSpec) -> LayerParameters:
    """Exact parameter count of one layer of a stack."""
    width = model.width(stack)
    attention = _attention_parameters(width, stack.attention)
    return LayerParameters(
        attention=attention,
        cross_attention=attention if stack.cross_attention else 0,
        feed_forward=_common_parameters(width, stack.feed_forward),
        experts=_expert_parameters(width, stack.feed_forward),
        norms=layer_norms(stack) * _norm_parameters(model, stack) + stack.other_parameters,
    )


def layer_norms(stack: StackSpec) -> int:
    """Norms of the residual stream in one layer."""
    if stack.num_norms is not None:
        return stack.num_norms
    return 3 if stack.cross_attention else 2


def layers_in_order(model: ModelSpec) -> tuple[StackSpec, ...]:
    """One entry per layer, encoder first: the order in which ``Strategy.stage_layers`` cuts the model."""
    return tuple(stack for stack in model.stacks for _ in range(stack.num_layers))


def stack_tokens(stack: StackSpec, *, sequence_length: int, source_length: int) -> int:
    """Tokens of one sample that pass through a stack. An encoder without a source reads the sequence itself."""
    if stack.num_tokens is not None:
        return stack.num_tokens
    return source_length if stack.role is StackRole.ENCODER and source_length else sequence_length


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
    heads, width = stack.attention, model.width(stack)
    query_and_output = 4.0 * width * heads.num_heads * heads.head_size
    key_and_value = 4.0 * width * heads.num_kv_heads * heads.head_size
    score = 4.0 * heads.num_heads * heads.head_size
    cross = stack.cross_attention
    source_length = _source_tokens(model, source_length) if cross else source_length
    return LayerFlops(
        projections=tokens * projection_flops(width, heads),
        scores=tokens * score_flops(heads) * attention_span(stack, num_tokens=tokens),
        cross_projections=(tokens * query_and_output + source_length * key_and_value) if cross else 0.0,
        cross_scores=tokens * score * source_length if cross else 0.0,
        feed_forward=tokens * feed_forward_flops(width, stack.feed_forward),
    )


def projection_flops(width: int, attention: AttentionSpec) -> float:
    """Forward FLOPs per token of the projections of a self-attention: two per weight."""
    biases = dataclasses.replace(attention, qkv_bias=False, output_bias=False)
    norms = 0 if attention.latent is None else attention.latent.kv_rank + (attention.latent.query_rank or 0)
    return 2.0 * (_attention_parameters(width, biases) - norms)


def score_flops(attention: AttentionSpec) -> float:
    """Forward FLOPs of one query with one key: the score and the weighted value, over all heads."""
    if attention.latent is None:
        return 4.0 * attention.num_heads * attention.head_size
    key = attention.head_size + attention.latent.rope_size
    return 2.0 * attention.num_heads * (key + attention.latent.value_size)


def feed_forward_flops(width: int, block: FeedForwardSpec) -> float:
    """Forward FLOPs per token: the dense block, or the router, the shared experts and the ``top_k`` experts of the token [M]."""
    matrices = 3 if block.gated else 2
    if block.experts is None:
        return 2.0 * matrices * width * block.hidden_size
    experts = block.experts
    columns = experts.top_k * block.hidden_size + experts.shared_size
    return 2.0 * width * (matrices * columns + experts.num_experts + experts.shared_gate)


def head_flops(model: ModelSpec, *, sequence_length: int) -> float:
    """Forward FLOPs of the logits of one sample: 2 h V per token of the last stack [M]; 0 without a head."""
    return 2.0 * model.hidden_size * model.vocab_size * sequence_length if model.has_head else 0.0


def sample_flops(model: ModelSpec, *, sequence_length: int, source_length: int = 0) -> SampleFlops:
    """Forward FLOPs of one sample through all stacks and the head."""
    return SampleFlops(
        stacks=tuple(
            stack.num_layers * layer_flops(model, stack, sequence_length=sequence_length, source_length=source_length).total
            for stack in model.stacks
        ),
        head=head_flops(model, sequence_length=sequence_length),
        parts=sum(part.flops_per_sample + part.flops_per_token * sequence_length for part in model.parts),
    )


def layer_activations(model: ModelSpec, stack: StackSpec, *, fused_gate: bool = False) -> ActivationCount:
    """Elements that one layer keeps per token for the backward pass, without any recompute and with fused attention scores.

    Kept per block: the residual stream that enters the norm and the norm's output (2 h); q, k, v, the attention output and one
    softmax statistic per head; the feed-forward's hidden columns: input and output of the activation, and for a gated block
    also the second factor and the product (``fused_gate``: the activation is computed again, so 3 f instead of 4 f).
    Term by term as [K22] section 4 does it for the classic block. Latent attention also keeps its low ranks, before and after
    their norms; of a mixture the columns are those of the ``top_k`` and shared experts, and beside them stand the router's
    scores and each expert's copy of its input and output.
    """
    heads, width, block = stack.attention, model.width(stack), stack.feed_forward
    queries = heads.num_heads * heads.head_size
    keys = heads.num_kv_heads * heads.head_size
    num_blocks = 3 if stack.cross_attention else 2
    columns = (3 if fused_gate else 4) if block.gated else 2
    cross = 2 * queries + heads.num_heads if stack.cross_attention else 0
    experts = block.experts
    passed = block.hidden_size if experts is None else experts.top_k * block.hidden_size + experts.shared_size
    latent = heads.latent
    ranks = 0 if latent is None else 2 * (latent.kv_rank + (latent.query_rank or 0)) + latent.rope_size
    routed = 0 if experts is None else experts.num_experts + 2 * experts.top_k * width
    return ActivationCount(
        input=width,
        whole=num_blocks * 2 * width + ranks + routed,
        divided=_attention_activations(heads) + cross + columns * passed,
        source=2 * keys if stack.cross_attention else 0,
    )


def _attention_activations(heads: AttentionSpec) -> int:
    """q, k, v, the attention output and one softmax statistic per head."""
    if heads.latent is None:
        return 2 * heads.num_heads * heads.head_size + 2 * heads.num_kv_heads * heads.head_size + heads.num_heads
    key = heads.head_size + heads.latent.rope_size
    return heads.num_heads * (2 * key + 2 * heads.latent.value_size + 1)


def _source_tokens(model: ModelSpec, source_length: int) -> int:
    """Tokens that a cross-attention reads: those of an encoder that has its own number, else the workload's."""
    encoder = next((stack for stack in model.stacks if stack.role is StackRole.ENCODER), None)
    return encoder.num_tokens if encoder is not None and encoder.num_tokens is not None else source_length


def _positions(model: ModelSpec, index: int) -> int:
    """Learned positions belong to the first stack of each encoder and decoder."""
    role = model.stacks[index].role
    first = index == 0 or model.stacks[index - 1].role is not role
    learned = model.position is PositionKind.LEARNED and role is not StackRole.TOWER
    return model.max_positions * model.hidden_size if learned and first else 0


def _attention_parameters(hidden_size: int, attention: AttentionSpec) -> int:
    if attention.latent is not None:
        return _latent_parameters(hidden_size, attention, attention.latent)
    queries = attention.num_heads * attention.head_size
    keys = attention.num_kv_heads * attention.head_size
    weights = 2 * hidden_size * queries + 2 * hidden_size * keys
    return weights + (queries + 2 * keys) * attention.qkv_bias + hidden_size * attention.output_bias


def _latent_parameters(hidden_size: int, attention: AttentionSpec, latent: LatentSpec) -> int:
    heads = attention.num_heads
    queries = heads * (attention.head_size + latent.rope_size)
    down = latent.kv_rank + latent.rope_size
    up = heads * (attention.head_size + latent.value_size)
    keys_and_values = hidden_size * down + down * attention.qkv_bias + latent.kv_rank + latent.kv_rank * up
    output = heads * latent.value_size * hidden_size + hidden_size * attention.output_bias
    if latent.query_rank is None:
        return hidden_size * queries + keys_and_values + output
    rank = latent.query_rank
    return hidden_size * rank + rank * attention.qkv_bias + rank + rank * queries + keys_and_values + output


def _common_parameters(hidden_size: int, block: FeedForwardSpec) -> int:
    if block.experts is None:
        return _block_parameters(hidden_size, block.hidden_size, block)
    experts = block.experts
    router = hidden_size * experts.num_experts + experts.num_experts * experts.router_bias
    shared = _block_parameters(hidden_size, experts.shared_size, block) if experts.shared_size else 0
    return router + shared + hidden_size * experts.shared_gate


def _expert_parameters(hidden_size: int, block: FeedForwardSpec) -> int:
    if block.experts is None:
        return 0
    return block.experts.num_experts * _block_parameters(hidden_size, block.hidden_size, block)


def _block_parameters(hidden_size: int, columns: int, block: FeedForwardSpec) -> int:
    inner = 2 if block.gated else 1
    return (inner + 1) * hidden_size * columns + (inner * columns + hidden_size) * block.bias


def _norm_parameters(model: ModelSpec, stack: StackSpec) -> int:
    has_bias = stack.norm is NormKind.LAYER and stack.norm_bias
    return model.width(stack) * (2 if has_bias else 1)
