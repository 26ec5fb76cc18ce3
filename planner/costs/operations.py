"""The operations of one micro-batch on one rank, in the order in which the worker runs them.

One list carries both time (kernels and collectives, forward and backward) and memory (what autograd keeps), so that the two
predictions cannot drift apart. It mirrors ``workers/training``: pre-norm blocks, fused attention, eager autograd, tensor
parallelism by copies and collectives around the blocks. A linear layer maps [tokens, in] to [tokens, out]; its backward is one
product for the input's gradient and one for the weight's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from planner.costs.types import Exchange, Operation, Work
from trimtab.inventory import ProbeKernel
from trimtab.model import ActivationKind, NormKind, PositionKind
from trimtab.strategy import Precision

if TYPE_CHECKING:
    from trimtab.model import AttentionSpec, FeedForwardSpec, ModelSpec, StackSpec

ELEMENT_BYTES: dict[Precision, int] = {
    Precision.FP64: 8,
    Precision.FP32: 4,
    Precision.TF32: 4,
    Precision.BF16: 2,
    Precision.FP16: 2,
    Precision.FP8: 2,
    Precision.MXFP8: 2,
    Precision.NVFP4: 2,
}
"""Bytes of one activation. FP8 multiplies in 8 bits but keeps activations in bf16."""

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = 0, 1, 2
"""Last entry of a MATMUL shape: which of the three products of a linear layer."""

LOSS_BYTES = 4
"""The loss is computed in single precision at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What a rank sees of a micro-batch: ``batch`` samples of ``length`` tokens (``memory_length`` of the encoder), tp ranks.

    ``fused_norm``: the device has one kernel for an RMS norm (torch on the CPU has not).
    """

    batch: int
    length: int
    memory_length: int
    tp: int
    sequence_parallel: bool
    precision: Precision
    fused_norm: bool

    @property
    def width(self) -> int:
        """Bytes of one activation."""
        return ELEMENT_BYTES[self.precision]

    @property
    def tokens(self) -> int:
        """Tokens of the micro-batch inside the blocks."""
        return self.batch * self.length

    @property
    def stream_tokens(self) -> int:
        """Tokens of the residual stream between the blocks: a part of them under sequence parallelism."""
        return self.tokens // self.tp if self.sequence_parallel else self.tokens


@lru_cache(maxsize=4096)
def layer_operations(model: ModelSpec, stack: StackSpec, part: Slice) -> tuple[Operation, ...]:
    """All operations of one layer of ``stack``, forward order."""
    hidden = model.hidden_size
    rotary = model.position is PositionKind.ROTARY
    out = [_norm(hidden, stack, part), *_enter(hidden, part)]
    out += _attention(hidden, stack, part, rotary=rotary)
    out += [*_leave(hidden, part), _residual(hidden, part)]
    if stack.cross_attention:
        out += [_norm(hidden, stack, part), *_enter(hidden, part)]
        out += _cross_attention(hidden, stack, part)
        out += [*_leave(hidden, part), _residual(hidden, part)]
    out += [_norm(hidden, stack, part), *_enter(hidden, part)]
    out += _feed_forward(hidden, stack.feed_forward, part)
    out += [*_leave(hidden, part), _residual(hidden, part)]
    return tuple(out)


@lru_cache(maxsize=4096)
def embedding_operations(model: ModelSpec, part: Slice) -> tuple[Operation, ...]:
    """Token embedding and learned or sinusoidal positions; its gradient is a dense table."""
    hidden, tokens, width = model.hidden_size, part.tokens, part.width
    rows = share(model.vocab_size, part.tp)
    elements = tokens * hidden
    masks = (_elementwise(elements, 2),) if part.tp > 1 else ()
    added = rows * hidden * width if model.tied_embeddings else 0  # the dense gradient, before it joins the head's
    lookup = Operation(
        name="embedding",
        forward=(Work(kernel=ProbeKernel.EMBEDDING, shape=(tokens, hidden, rows, FORWARD)), *masks),
        backward=(Work(kernel=ProbeKernel.EMBEDDING, shape=(tokens, hidden, rows, WEIGHT_GRADIENT)), *masks),
        live_bytes=elements * width,
        backward_live_bytes=elements * width + added,
        weights=rows * hidden,
    )
    out = [lookup]
    if part.tp > 1:
        copy = (_elementwise(elements, 2),)
        out.append(Operation(name="join embedding", forward=copy, forward_exchanges=_all_reduce(part, elements)))
    if model.position is not PositionKind.ROTARY and model.position is not PositionKind.NONE:
        learned = model.position is PositionKind.LEARNED
        scale = () if learned else (_elementwise(elements, 2),)
        out.append(
            Operation(
                name="positions",
                forward=(*scale, _elementwise(elements, 3)),
                backward=(Work(kernel=ProbeKernel.REDUCTION, shape=(elements,)),) if learned else scale,
                live_bytes=elements * width,
                backward_live_bytes=elements * width,
                weights=model.max_positions * hidden if learned else 0,
            )
        )
    return tuple(out)


@lru_cache(maxsize=4096)
def head_operations(model: ModelSpec, stack: StackSpec, part: Slice) -> tuple[Operation, ...]:
    """Final norm, logits and the summed cross-entropy over the vocabulary, split by tensor parallelism."""
    vocab = share(model.vocab_size, part.tp)
    logits = _linear(model.hidden_size, vocab, part, name="logits", saves_input=True)
    return (
        _norm(model.hidden_size, stack, part),
        *_enter(model.hidden_size, part),
        replace(logits, live_bytes=0.0, backward_live_bytes=part.tokens * model.hidden_size * part.width),
        _cross_entropy(vocab, part),
    )


@lru_cache(maxsize=4096)
def closing_norm(model: ModelSpec, stack: StackSpec, part: Slice) -> tuple[Operation, ...]:
    """The norm that closes an encoder stack, and the gathering of what every decoder layer reads."""
    norm = _norm(model.hidden_size, stack, part)
    output = float(part.tokens * model.hidden_size * part.width)
    return replace(norm, saved_bytes=norm.saved_bytes + output), *_enter(model.hidden_size, part)


def _cross_entropy(vocab: int, part: Slice) -> Operation:
    """Forward keeps the log-softmax beside the logits; backward makes two tensors of their size (torch's nll and softmax)."""
    wide = max(part.width, LOSS_BYTES)
    size = float(part.tokens * vocab * wide)
    cast = (_elementwise(part.tokens * vocab, 2),) if part.width < LOSS_BYTES else ()
    forward = Work(kernel=ProbeKernel.CROSS_ENTROPY, shape=(part.tokens, vocab, FORWARD))
    exchanges = (
        Exchange(kernel=ProbeKernel.ALL_REDUCE, group="tp", num_bytes=float(part.tokens * wide)),
        Exchange(kernel=ProbeKernel.ALL_REDUCE, group="tp", num_bytes=float(2 * part.tokens * wide)),
    )
    return Operation(
        name="cross-entropy",
        forward=(*cast, forward, *((_elementwise(part.tokens * vocab, 2),) if part.tp > 1 else ())),
        backward=(Work(kernel=ProbeKernel.CROSS_ENTROPY, shape=(part.tokens, vocab, INPUT_GRADIENT)), *cast),
        forward_exchanges=exchanges if part.tp > 1 else (),
        saved_bytes=size,
        live_bytes=float(part.tokens * vocab * part.width),
        backward_live_bytes=size if part.tp > 1 else 2.0 * size,
        launches=(12, 8) if part.tp > 1 else (4, 3),
    )


def _attention(hidden: int, stack: StackSpec, part: Slice, *, rotary: bool) -> list[Operation]:
    spec = stack.attention
    query, key = _head_widths(spec, part)
    out = [
        _linear(hidden, query, part, name="query", saves_input=True, bias=spec.qkv_bias),
        _joined(_linear(hidden, key, part, name="key", bias=spec.qkv_bias), hidden, part),
        _joined(_linear(hidden, key, part, name="value", bias=spec.qkv_bias), hidden, part),
    ]
    if rotary:
        out.append(_rotary(part, query, key))
    out.append(_core(spec, part, part.length, causal=stack.causal))
    out.append(_linear(query, hidden, part, name="attention output", bias=spec.output_bias))
    return out


def _cross_attention(hidden: int, stack: StackSpec, part: Slice) -> list[Operation]:
    spec = stack.attention
    query, key = _head_widths(spec, part)
    memory = replace(part, length=part.memory_length, sequence_parallel=False)
    return [
        _linear(hidden, query, part, name="query", saves_input=True, bias=spec.qkv_bias),
        _joined(_linear(hidden, key, memory, name="key", bias=spec.qkv_bias), hidden, memory),
        _joined(_linear(hidden, key, memory, name="value", bias=spec.qkv_bias), hidden, memory),
        _core(spec, part, part.memory_length, causal=False),
        _linear(query, hidden, part, name="attention output", bias=spec.output_bias),
    ]


def _core(spec: AttentionSpec, part: Slice, key_length: int, *, causal: bool) -> Operation:
    """Scaled dot-product attention: saves queries, keys, values, output and one statistic per row."""
    query, key = _head_widths(spec, part)
    heads, key_tokens = share(spec.num_heads, part.tp), part.batch * key_length
    shape = (part.batch, heads, part.length, key_length, spec.head_size, int(causal))
    statistics = part.batch * heads * part.length * 4.0
    out_bytes = part.tokens * query * part.width + statistics
    inputs = (part.tokens * query + 2 * key_tokens * key) * part.width
    repeated = _copies(2 * key_tokens * (query - key))
    return Operation(
        name="attention",
        forward=(*repeated, Work(kernel=ProbeKernel.ATTENTION_FORWARD, shape=shape)),
        backward=(Work(kernel=ProbeKernel.ATTENTION_BACKWARD, shape=shape), *repeated),
        saved_bytes=inputs + out_bytes,
        kept_bytes=out_bytes,
        backward_live_bytes=inputs + part.tokens * query * part.width,
        launches=(9, 9),
        num_saved=5,
    )


def _head_widths(spec: AttentionSpec, part: Slice) -> tuple[int, int]:
    return share(spec.num_heads, part.tp) * spec.head_size, share(spec.num_kv_heads, part.tp) * spec.head_size


def _rotary(part: Slice, query: int, key: int) -> Operation:
    """Queries and keys turned by a table of unit complex numbers."""
    sizes = (part.tokens * query, part.tokens * key)
    return Operation(
        name="rotary",
        forward=tuple(Work(kernel=ProbeKernel.ROTARY_FORWARD, shape=(size,)) for size in sizes),
        backward=tuple(Work(kernel=ProbeKernel.ROTARY_BACKWARD, shape=(size,)) for size in sizes),
        live_bytes=float(sum(sizes) * part.width),
        backward_live_bytes=float(sum(sizes) * part.width),
        num_saved=2,
    )


def _feed_forward(hidden: int, spec: FeedForwardSpec, part: Slice) -> list[Operation]:
    inner = share(spec.hidden_size, part.tp)
    elements = part.tokens * inner
    first = _linear(hidden, inner, part, name="gate" if spec.gated else "up", saves_input=True, bias=spec.bias)
    down = _linear(inner, hidden, part, name="down", saves_input=True, bias=spec.bias)
    forward, backward = _activation(spec.activation, elements)
    if not spec.gated:
        activation = Operation(
            name="activation",
            forward=(forward,),
            backward=(backward,),
            saved_bytes=float(elements * part.width),
            live_bytes=float(elements * part.width),
            backward_live_bytes=2.0 * elements * part.width,
            num_saved=1,
        )
        return [first, activation, down]
    gated = Operation(
        name="activation",
        forward=(forward, _elementwise(elements, 3)),
        backward=(_elementwise(elements, 3, 2.0), backward),
        saved_bytes=3.0 * elements * part.width,
        live_bytes=float(elements * part.width),
        backward_live_bytes=3.0 * elements * part.width,
        num_saved=3,
    )
    up = _joined(_linear(hidden, inner, part, name="up", bias=spec.bias), hidden, part)
    return [first, up, gated, down]


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


def _linear(inputs: int, outputs: int, part: Slice, *, name: str, saves_input: bool = False, bias: bool = False) -> Operation:
    """One linear layer. ``saves_input`` where no operation before it has counted the input as saved."""
    tokens, width = part.tokens, part.width
    cast = (_elementwise(inputs * outputs, 2),) if part.precision in (Precision.BF16, Precision.FP16) else ()
    sums = (Work(kernel=ProbeKernel.REDUCTION, shape=(tokens * outputs,)),) if bias else ()
    return Operation(
        name=name,
        forward=(*cast, Work(kernel=ProbeKernel.MATMUL, shape=(tokens, inputs, outputs, FORWARD))),
        backward=(
            Work(kernel=ProbeKernel.MATMUL, shape=(tokens, inputs, outputs, INPUT_GRADIENT)),
            Work(kernel=ProbeKernel.MATMUL, shape=(tokens, inputs, outputs, WEIGHT_GRADIENT)),
            *cast,
            *sums,
        ),
        saved_bytes=float(tokens * inputs * width) if saves_input else 0.0,
        kept_bytes=float(tokens * outputs * width),
        live_bytes=float(tokens * outputs * width),
        backward_live_bytes=float(tokens * (outputs + inputs) * width),
        weights=inputs * outputs + (outputs if bias else 0),
        launches=(5, 5),
        num_saved=2,
    )


def _joined(linear: Operation, inputs: int, part: Slice) -> Operation:
    """A linear layer whose input others read too: backward its gradient is added to theirs."""
    return replace(linear, backward=(*linear.backward, _elementwise(part.tokens * inputs, 3)))


def _norm(hidden: int, stack: StackSpec, part: Slice) -> Operation:
    """Saves its input (the residual stream) and a statistic per token; its output is counted by who reads it.

    An RMS norm without a kernel of its own also saves the normalised input, before the weight.
    """
    tokens = part.stream_tokens
    rms = stack.norm is NormKind.RMS
    code = 0 if rms else 1
    size = float(tokens * hidden * part.width)
    saved = size if part.fused_norm or not rms else 2.0 * size
    return Operation(
        name="norm",
        forward=(Work(kernel=ProbeKernel.NORM_FORWARD, shape=(tokens, hidden, code)),),
        backward=(Work(kernel=ProbeKernel.NORM_BACKWARD, shape=(tokens, hidden, code)),),
        saved_bytes=saved + tokens * (4.0 if rms else 8.0),
        live_bytes=size,
        backward_live_bytes=(3.0 if rms else 2.0) * size,
        weights=hidden * (2 if not rms and stack.norm_bias else 1),
        launches=(3, 3),
        num_saved=_saved_by_norm(stack, part),
    )


def _saved_by_norm(stack: StackSpec, part: Slice) -> int:
    """Tensors that autograd keeps of a norm: input, weight, statistics; or those of each kernel that an RMS norm is made of."""
    if stack.norm is NormKind.RMS:
        return 3 if part.fused_norm else 6
    return 5 if stack.norm_bias else 4


def _residual(hidden: int, part: Slice) -> Operation:
    """Forward ``x + block(x)``; backward the two gradients of x meet in one addition."""
    elements = part.stream_tokens * hidden
    return Operation(
        name="residual",
        forward=(_elementwise(elements, 3),),
        backward=(_elementwise(elements, 3),),
        live_bytes=float(elements * part.width),
        backward_live_bytes=float(elements * part.width),
        launches=(1, 1),
    )


def _enter(hidden: int, part: Slice) -> tuple[Operation, ...]:
    """Into a block that tensor parallelism splits: backward all-reduce, or gather forward and scatter backward."""
    if part.tp == 1:
        return ()
    elements = part.tokens * hidden
    copy = (_elementwise(elements, 2),)
    if part.sequence_parallel:
        gather = Exchange(kernel=ProbeKernel.ALL_GATHER, group="tp", num_bytes=float(elements * part.width))
        scatter = Exchange(kernel=ProbeKernel.REDUCE_SCATTER, group="tp", num_bytes=float(elements * part.width))
        return (
            Operation(
                name="enter",
                forward=copy,
                backward=copy,
                forward_exchanges=(gather,),
                backward_exchanges=(scatter,),
                live_bytes=float(elements * part.width),
                launches=(4, 4),
            ),
        )
    return (
        Operation(
            name="enter",
            backward=copy,
            backward_exchanges=_all_reduce(part, elements),
            backward_live_bytes=float(elements * part.width),
            launches=(2, 2),
        ),
    )


def _leave(hidden: int, part: Slice) -> tuple[Operation, ...]:
    """Out of such a block: forward all-reduce, or scatter forward and gather backward."""
    if part.tp == 1:
        return ()
    elements = part.tokens * hidden
    copy = (_elementwise(elements, 2),)
    if part.sequence_parallel:
        gather = Exchange(kernel=ProbeKernel.ALL_GATHER, group="tp", num_bytes=float(elements * part.width))
        scatter = Exchange(kernel=ProbeKernel.REDUCE_SCATTER, group="tp", num_bytes=float(elements * part.width))
        return (
            Operation(
                name="leave",
                forward=copy,
                backward=copy,
                forward_exchanges=(scatter,),
                backward_exchanges=(gather,),
                live_bytes=float(elements * part.width),
                launches=(4, 4),
            ),
        )
    return (
        Operation(
            name="leave",
            forward=copy,
            forward_exchanges=_all_reduce(part, elements),
            live_bytes=float(elements * part.width),
            launches=(2, 2),
        ),
    )


def _all_reduce(part: Slice, elements: int) -> tuple[Exchange, ...]:
    return (Exchange(kernel=ProbeKernel.ALL_REDUCE, group="tp", num_bytes=float(elements * part.width)),)


def _elementwise(elements: int, operands: int, count: float = 1.0) -> Work:
    return Work(kernel=ProbeKernel.ELEMENTWISE, shape=(elements, operands), count=count)


def _copies(elements: int) -> tuple[Work, ...]:
    return (Work(kernel=ProbeKernel.STRIDED_COPY, shape=(elements,)),) if elements else ()


def share(size: int, ranks: int) -> int:
    """The largest share of ``size`` rows over ``ranks``."""
    return -(-size // ranks)
