"""FLOPs and bytes of each kernel of the operation list (shapes: ``docs/probe.md``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.costs.operations import ELEMENT_BYTES
from trimtab.inventory import ProbeKernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner.costs.types import Work
    from trimtab.strategy import Precision

_Arithmetic = tuple[float, float]

_STREAMS: dict[ProbeKernel, float] = {
    ProbeKernel.STRIDED_COPY: 2.0,
    ProbeKernel.SILU_FORWARD: 2.0,
    ProbeKernel.SILU_BACKWARD: 3.0,
    ProbeKernel.GELU_FORWARD: 2.0,
    ProbeKernel.GELU_BACKWARD: 3.0,
    ProbeKernel.ROTARY_FORWARD: 2.0,
    ProbeKernel.ROTARY_BACKWARD: 2.0,
    ProbeKernel.REDUCTION: 1.0,
    ProbeKernel.OPTIMIZER: 7.0,
}
"""Tensors read or written once by kernels whose shape is (elements,). AdamW reads four tensors and writes three."""

_NORM_STREAMS = {ProbeKernel.NORM_FORWARD: 4.0, ProbeKernel.NORM_BACKWARD: 6.0}


def arithmetic(work: Work, precision: Precision) -> _Arithmetic:
    """(floating-point operations of matrix units, bytes moved) of one run. Raises KeyError for a kernel that has none."""
    width = ELEMENT_BYTES[precision]
    streams = _STREAMS.get(work.kernel)
    if streams is not None:
        return 0.0, streams * work.shape[0] * (4.0 if work.kernel is ProbeKernel.OPTIMIZER else width)
    return _SHAPED[work.kernel](work.shape, width)


def _matmul(shape: tuple[int, ...], width: int) -> _Arithmetic:
    rows, inner, columns = shape[:3]
    return 2.0 * rows * inner * columns, float(width) * (rows * inner + inner * columns + rows * columns)


def _batched_matmul(shape: tuple[int, ...], width: int) -> _Arithmetic:
    batch, rows, inner, columns = shape[:4]
    flops, num_bytes = _matmul((rows, inner, columns), width)
    return batch * flops, batch * num_bytes


def _attention_forward(shape: tuple[int, ...], width: int) -> _Arithmetic:
    batch, heads, query, key, size, causal = shape
    flops = 4.0 * batch * heads * query * key * size * (0.5 if causal else 1.0)
    return flops, 2.0 * width * batch * heads * (query + key) * size


def _attention_backward(shape: tuple[int, ...], width: int) -> _Arithmetic:
    flops, num_bytes = _attention_forward(shape, width)
    return 2.5 * flops, 2.0 * num_bytes


def _elementwise(shape: tuple[int, ...], width: int) -> _Arithmetic:
    return 0.0, float(shape[0]) * shape[1] * width


def _norm(streams: float) -> Callable[[tuple[int, ...], int], _Arithmetic]:
    return lambda shape, width: (0.0, streams * shape[0] * shape[1] * width)


def _cross_entropy(shape: tuple[int, ...], width: int) -> _Arithmetic:
    return 0.0, 4.0 * shape[0] * shape[1] * max(width, 4)


def _embedding(shape: tuple[int, ...], width: int) -> _Arithmetic:
    tokens, hidden, rows, gradient = shape
    return 0.0, float(width) * hidden * (rows + 3 * tokens if gradient else 2 * tokens)


_SHAPED: dict[ProbeKernel, Callable[[tuple[int, ...], int], _Arithmetic]] = {
    ProbeKernel.MATMUL: _matmul,
    ProbeKernel.BATCHED_MATMUL: _batched_matmul,
    ProbeKernel.ATTENTION_FORWARD: _attention_forward,
    ProbeKernel.ATTENTION_BACKWARD: _attention_backward,
    ProbeKernel.ELEMENTWISE: _elementwise,
    ProbeKernel.NORM_FORWARD: _norm(_NORM_STREAMS[ProbeKernel.NORM_FORWARD]),
    ProbeKernel.NORM_BACKWARD: _norm(_NORM_STREAMS[ProbeKernel.NORM_BACKWARD]),
    ProbeKernel.CROSS_ENTROPY: _cross_entropy,
    ProbeKernel.EMBEDDING: _embedding,
}
