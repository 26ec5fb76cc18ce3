"""The operations of one micro-batch on one rank, in the order in which the worker runs them.

One list carries both time (kernels and collectives, forward and backward) and memory (what autograd keeps), so that the two
predictions cannot drift apart. It mirrors ``workers/training/models``: pre-norm blocks, fused attention, eager autograd.
Shapes follow torch: a linear layer maps [tokens, in] to [tokens, out]; its backward is one product for the input's
gradient and one for the weight's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from planner.costs.types import Exchange, Operation, Work
from trimtab.inventory import ProbeKernel
from trimtab.model import ActivationKind, NormKind, PositionKind
from trimtab.strategy import Precision

if TYPE_CHECKING:
    from trimtab.model import FeedForwardSpec, ModelSpec, StackSpec

ELEMENT_BYTES: dict[Precision, int] = {
    Precision.FP64: 8,
    Precision.FP32: 4,
    Precision.TF32: 4,
    Precision.BF16: 2,
    Precision.FP16: 2,
    Precision.FP8: 2,
}
"""Bytes of one activation. FP8 multiplies in 8 bits but keeps activations in bf16."""

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = 0, 1, 2
"""Last entry of a MATMUL shape: which of the three products of a linear layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What a rank sees of a micro-batch: ``batch`` samples of ``length`` tokens (``memory_length`` of the encoder), tp ranks."""

    batch: int
    length: int
    memory_length: int
    tp: int
    sequence_parallel: bool
    precision: Precision

    @property
    def element_bytes(self) -> int:
        """Bytes of one activation."""
        return ELEMENT_BYTES[self.precision]

    @property
    def tokens(self) -> int:
        """Tokens of the micro-batch on this rank."""
        return self.batch * self.length


@lru_cache(maxsize=4096)
def layer_operations(model: ModelSpec, stack: StackSpec, part: Slice) -> tuple[Operation, ...]:
    """All operations of one layer of ``stack``, forward order."""
    hidden = model.hidden_size
    out: list[Operation] = []
    out += _norm(hidden, stack, part)
    out += _attention(model, stack, part, cross=False)
    out.append(_residual(hidden, part))
    if stack.cross_attention:
        out += _norm(hidden, stack, part)
        out += _attention(model, stack, part, cross=True)
        out.append(_residual(hidden, part))
    out += _norm(hidden, stack, part)
    out += _feed_forward(hidden, stack.feed_forward, part)
    out.append(_residual(hidden, part))
    return tuple(out)


@lru_cache(maxsize=4096)
def embedding_operations(model: ModelSpec, part: Slice) -> tuple[Operation, ...]:
    """Token embedding and learned or sinusoidal positions."""
    hidden, tokens, width = model.hidden_size, part.tokens, part.element_bytes
    rows = _share(model.vocab_size, part.tp)
    table = rows * hidden * width
    operation = Operation(
        name="embedding",
        forward=(Work(kernel=ProbeKernel.EMBEDDING, shape=(tokens, hidden, rows, FORWARD)),),
        backward=(Work(kernel=ProbeKernel.EMBEDDING, shape=(tokens, hidden, rows, WEIGHT_GRADIENT)),),
        forward_exchanges=_reduce(part, tokens * hidden),
        saved_bytes=tokens * 8.0,
        live_bytes=tokens * hidden * width,
        backward_live_bytes=table,
    )
    if model.position not in (PositionKind.LEARNED, PositionKind.SINUSOIDAL):
        return (operation,)
    positions = Operation(
        name="positions",
        forward=(_elementwise(tokens * hidden, 3),),
        backward=(_elementwise(tokens * hidden, 1),) if model.position is PositionKind.LEARNED else (),
        live_bytes=tokens * hidden * width,
    )
    return operation, positions


@lru_cache(maxsize=4096)
def head_operations(model: ModelSpec, stack: StackSpec, part: Slice) -> tuple[Operation, ...]:
    """Final norm, logits and cross-entropy over the vocabulary."""
    vocab, width = _share(model.vocab_size, part.tp), part.element_bytes
    logits = part.tokens * vocab
    loss_width = max(width, 4)
    cross_entropy = Operation(
        name="cross-entropy",
        forward=(Work(kernel=ProbeKernel.CROSS_ENTROPY, shape=(part.tokens, vocab, FORWARD)),),
        backward=(Work(kernel=ProbeKernel.CROSS_ENTROPY, shape=(part.tokens, vocab, INPUT_GRADIENT)),),
        forward_exchanges=(
            (Exchange(kernel=ProbeKernel.ALL_REDUCE, group="tp", num_bytes=part.tokens * 4.0, count=3),) if part.tp > 1 else ()
        ),
        saved_bytes=logits * loss_width + part.tokens * 8.0,
        live_bytes=0.0 if width >= 4 else logits * loss_width,
        backward_live_bytes=logits * loss_width,
    )
    head = _linear("logits", model.hidden_size, vocab, part, split="column", saves_input=True)
    return (*_norm(model.hidden_size, stack, part), head, cross_entropy)


@lru_cache(maxsize=4096)
def final_norm_operations(model: ModelSpec, stack: StackSpec, part: Slice) -> tuple[Operation, ...]:
    """The norm that closes an encoder stack."""
    return tuple(_norm(model.hidden_size, stack, part))


def _attention(model: ModelSpec, stack: StackSpec, part: Slice, *, cross: bool) -> list[Operation]:
    spec, hidden, width = stack.attention, model.hidden_size, part.element_bytes
    heads, kv_heads = _share(spec.num_heads, part.tp), _share(spec.num_kv_heads, part.tp)
    query, key = heads * spec.head_size, kv_heads * spec.head_size
    key_length = part.memory_length if cross else part.length
    key_tokens = part.batch * key_length
    keys = Slice(
        batch=part.batch,
        length=key_length,
        memory_length=part.memory_length,
        tp=part.tp,
        sequence_parallel=part.sequence_parallel,
        precision=part.precision,
    )
    out = [
        _linear("query", hidden, query, part, split="column", saves_input=False),
        _linear("key", hidden, key, keys, split="column" if cross else "inner", saves_input=False),
        _linear("value", hidden, key, keys, split="inner", saves_input=False),
    ]
    rotary = model.position is PositionKind.ROTARY and not cross
    if rotary:
        out.append(_rotary(part.tokens, query, key))
    expand = 0 if heads == kv_heads else 2 * key_tokens * (query - key)
    shape = (part.batch, heads, part.length, key_length, spec.head_size, int(stack.causal and not cross))
    saved = part.tokens * query * 2 + 2 * key_tokens * key + expand
    out.append(
        Operation(
            name="attention",
            forward=(Work(kernel=ProbeKernel.ATTENTION_FORWARD, shape=shape), *_copies(expand)),
            backward=(Work(kernel=ProbeKernel.ATTENTION_BACKWARD, shape=shape), *_copies(expand)),
            saved_bytes=saved * width + part.batch * heads * part.length * 4.0,
            backward_live_bytes=(part.tokens * query + 2 * key_tokens * key) * width,
            launches=(7, 7),
        )
    )
    out.append(_linear("attention output", query, hidden, part, split="row", saves_input=False))
    return out


def _rotary(tokens: int, query: int, key: int) -> Operation:
    """Queries and keys turned by a table of unit complex numbers."""
    return Operation(
        name="rotary",
        forward=tuple(Work(kernel=ProbeKernel.ROTARY_FORWARD, shape=(tokens * width,)) for width in (query, key)),
        backward=tuple(Work(kernel=ProbeKernel.ROTARY_BACKWARD, shape=(tokens * width,)) for width in (query, key)),
    )


def _feed_forward(hidden: int, spec: FeedForwardSpec, part: Slice) -> list[Operation]:
    inner, width = _share(spec.hidden_size, part.tp), part.element_bytes
    elements = part.tokens * inner
    out = [_linear("up", hidden, inner, part, split="column", saves_input=False)]
    if spec.gated:
        out.append(_linear("gate", hidden, inner, part, split="inner", saves_input=False))
    forward, backward = _activation(spec.activation, elements)
    gate_forward = (_elementwise(elements, 3),) if spec.gated else ()
    gate_backward = (_elementwise(elements, 3, 2),) if spec.gated else ()
    out.append(
        Operation(
            name="activation",
            forward=(forward, *gate_forward),
            backward=(*gate_backward, backward),
            saved_bytes=(3 if spec.gated else 1) * elements * width,
            backward_live_bytes=2 * elements * width,
        )
    )
    out.append(_linear("down", inner, hidden, part, split="row", saves_input=True))
    return out


def _activation(kind: ActivationKind, elements: int) -> tuple[Work, Work]:
    if kind is ActivationKind.SILU:
        return (
            Work(kernel=ProbeKernel.SILU_FORWARD, shape=(elements,)),
            Work(kernel=ProbeKernel.SILU_BACKWARD, shape=(elements,)),
        )
    if kind is ActivationKind.GELU:
        return (
            Work(kernel=ProbeKernel.GELU_FORWARD, shape=(elements,)),
            Work(kernel=ProbeKernel.GELU_BACKWARD, shape=(elements,)),
        )
    return _elementwise(elements, 2), _elementwise(elements, 3)


def _linear(name: str, inputs: int, outputs: int, part: Slice, *, split: str, saves_input: bool) -> Operation:
    """One linear layer. ``split`` column and inner: outputs over tp (column reads its input first); row: inputs over tp."""
    tokens, width = part.tokens, part.element_bytes
    extra: tuple[Work, ...] = (_elementwise(tokens * inputs, 3),) if split == "inner" else ()
    forward_exchanges = _reduce(part, tokens * outputs) if split == "row" else _gather(part, tokens * inputs, split)
    backward_exchanges = _gather(part, tokens * outputs, "column") if split == "row" else ()
    if split == "column":
        backward_exchanges = _reduce(part, tokens * inputs)
    return Operation(
        name=name,
        forward=(Work(kernel=ProbeKernel.MATMUL, shape=(tokens, inputs, outputs, FORWARD)),),
        backward=(
            Work(kernel=ProbeKernel.MATMUL, shape=(tokens, inputs, outputs, INPUT_GRADIENT)),
            Work(kernel=ProbeKernel.MATMUL, shape=(tokens, inputs, outputs, WEIGHT_GRADIENT)),
            *extra,
        ),
        forward_exchanges=forward_exchanges,
        backward_exchanges=backward_exchanges,
        saved_bytes=tokens * inputs * width if saves_input else 0.0,
        live_bytes=tokens * outputs * width,
        backward_live_bytes=inputs * outputs * width + tokens * inputs * width,
        launches=(2, 3),
    )


def _norm(hidden: int, stack: StackSpec, part: Slice) -> list[Operation]:
    tokens = part.tokens // part.tp if part.sequence_parallel else part.tokens
    code = 0 if stack.norm is NormKind.RMS else 1
    return [
        Operation(
            name="norm",
            forward=(Work(kernel=ProbeKernel.NORM_FORWARD, shape=(tokens, hidden, code)),),
            backward=(Work(kernel=ProbeKernel.NORM_BACKWARD, shape=(tokens, hidden, code)),),
            saved_bytes=(2.0 * hidden * part.element_bytes + 4.0) * tokens,
            backward_live_bytes=tokens * hidden * part.element_bytes,
        )
    ]


def _residual(hidden: int, part: Slice) -> Operation:
    """Forward ``x + block(x)``; backward the two gradients of x meet in one addition."""
    tokens = part.tokens // part.tp if part.sequence_parallel else part.tokens
    return Operation(
        name="residual",
        forward=(_elementwise(tokens * hidden, 3),),
        backward=(_elementwise(tokens * hidden, 3),),
        backward_live_bytes=tokens * hidden * part.element_bytes,
    )


def _elementwise(elements: int, operands: int, count: float = 1.0) -> Work:
    return Work(kernel=ProbeKernel.ELEMENTWISE, shape=(elements, operands), count=count)


def _copies(elements: int) -> tuple[Work, ...]:
    return (Work(kernel=ProbeKernel.STRIDED_COPY, shape=(elements,)),) if elements else ()


def _reduce(part: Slice, elements: int) -> tuple[Exchange, ...]:
    if part.tp == 1:
        return ()
    kernel = ProbeKernel.REDUCE_SCATTER if part.sequence_parallel else ProbeKernel.ALL_REDUCE
    return (Exchange(kernel=kernel, group="tp", num_bytes=float(elements * part.element_bytes)),)


def _gather(part: Slice, elements: int, split: str) -> tuple[Exchange, ...]:
    if part.tp == 1 or not part.sequence_parallel or split != "column":
        return ()
    return (Exchange(kernel=ProbeKernel.ALL_GATHER, group="tp", num_bytes=float(elements * part.element_bytes)),)


def _share(size: int, ranks: int) -> int:
    """The largest share of ``size`` rows over ``ranks``."""
    return -(-size // ranks)
