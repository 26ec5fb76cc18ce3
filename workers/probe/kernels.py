"""Builds each kernel as a callable over rotating operands.

A training step touches an operand again only after it has touched everything else, so each call works on another set of operands
and keeps its result until its turn comes again: the sets together are ``FOOTPRINT_BYTES``, more than a core's own cache. Kernels
go through the same torch functions as the training worker's modules; what calling autograd costs by itself is timed apart
(``gradient_call``) and taken off.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.adamw import adamw

from trimtab.inventory import ProbeKernel
from trimtab.strategy import Precision
from workers.probe.points import FORWARD, INPUT_GRADIENT, RMS_NORM, Point

FOOTPRINT_BYTES = 24 << 20
MAX_SETS = 16
ALIGNMENT = 64
OPTIMIZER_TENSORS = 8
LAUNCH_CHAIN = 32

Run = Callable[[], object]

DTYPES = {
    Precision.FP64: torch.float64,
    Precision.FP32: torch.float32,
    Precision.TF32: torch.float32,
    Precision.BF16: torch.bfloat16,
    Precision.FP16: torch.float16,
}


def prepare(point: Point, device: torch.device) -> Run:
    """A callable that runs the kernel once. Raises KeyError for a kernel that is not measured alone."""
    torch.backends.cuda.matmul.allow_tf32 = point.precision is Precision.TF32
    maker = _Maker(dtype=DTYPES[point.precision], device=device)
    return _MAKERS[point.kernel](maker, point.shape)


BACKWARD = frozenset(
    {
        ProbeKernel.ATTENTION_BACKWARD,
        ProbeKernel.SILU_BACKWARD,
        ProbeKernel.GELU_BACKWARD,
        ProbeKernel.ROTARY_BACKWARD,
        ProbeKernel.NORM_BACKWARD,
    }
)


def calls_autograd(point: Point) -> bool:
    """Whether a run of the point goes through one call of autograd."""
    if point.kernel in (ProbeKernel.CROSS_ENTROPY, ProbeKernel.EMBEDDING, ProbeKernel.LAUNCH):
        return point.shape[-1] != FORWARD
    return point.kernel in BACKWARD


def gradient_call(device: torch.device) -> Run:
    """The smallest call of autograd: what it costs beside any kernel."""
    x = torch.zeros(8, device=device, requires_grad=True)
    return _backward_of(x.view(2, 4), (x,), torch.zeros(2, 4, device=device))


def calls_per_run(kernel: ProbeKernel) -> int:
    """How many times the kernel's unit of work happens in one run."""
    return {ProbeKernel.OPTIMIZER: OPTIMIZER_TENSORS, ProbeKernel.LAUNCH: LAUNCH_CHAIN}.get(kernel, 1)


class _Maker:
    """Makes operands of one dtype on one device, as views that go round one pool of random numbers."""

    def __init__(self, *, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.device = device
        self._pool = _pool(dtype, device)
        self._next = 0

    def random(self, *shape: int) -> Tensor:
        size = math.prod(shape)
        if size > self._pool.numel():
            return torch.randn(*shape, device=self.device).to(self.dtype)
        if self._next + size > self._pool.numel():
            self._next = 0
        part = self._pool[self._next : self._next + size].view(shape)
        self._next += -(-size // ALIGNMENT) * ALIGNMENT
        return part.detach()

    def indices(self, count: int, high: int) -> Tensor:
        return torch.randint(0, high, (count,), device=self.device)

    def num_sets(self, elements: int) -> int:
        """Sets of operands whose sizes add up to the footprint."""
        size = max(1, elements * self.dtype.itemsize)
        return max(2, min(MAX_SETS, -(-FOOTPRINT_BYTES // size)))

    def rotate(self, runs: Sequence[Run]) -> Run:
        """One callable that goes round ``runs`` and keeps each one's last result."""
        kept: list[object] = [None] * len(runs)
        turns = itertools.cycle(range(len(runs)))

        def run() -> None:
            turn = next(turns)
            kept[turn] = runs[turn]()

        return run


@functools.lru_cache(maxsize=4)
def _pool(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.randn(FOOTPRINT_BYTES * 2 // 4, device=device).to(dtype)


def _bind(function: Callable[..., object], *operands: object) -> Run:
    return lambda: function(*operands)


def _matmul(make: _Maker, shape: tuple[int, ...]) -> Run:
    rows, inner, columns, product = shape
    weight = make.random(columns, inner)
    runs: list[Run] = []
    for _ in range(make.num_sets(rows * (inner + columns))):
        x, gradient = make.random(rows, inner), make.random(rows, columns)
        if product == FORWARD:
            runs.append(_bind(F.linear, x, weight))
        elif product == INPUT_GRADIENT:
            runs.append(_bind(torch.mm, gradient, weight))
        else:
            runs.append(_bind(torch.mm, gradient.t(), x))
    return make.rotate(runs)


def _batched_matmul(make: _Maker, shape: tuple[int, ...]) -> Run:
    batch, rows, inner, columns = shape
    sets = make.num_sets(batch * (rows * inner + inner * columns + rows * columns))
    return make.rotate(
        [_bind(torch.bmm, make.random(batch, rows, inner), make.random(batch, inner, columns)) for _ in range(sets)]
    )


def _attention(make: _Maker, shape: tuple[int, ...], *, backward: bool) -> Run:
    batch, heads, query, key, size, causal = shape
    runs: list[Run] = []
    for _ in range(make.num_sets(batch * heads * size * (2 * query + 2 * key))):
        operands = [
            make.random(batch, length, heads, size).transpose(1, 2).requires_grad_(backward) for length in (query, key, key)
        ]
        if not backward:
            runs.append(_bind(_attend, *operands, causal))
            continue
        out = _attend(operands[0], operands[1], operands[2], causal)
        gradient = make.random(batch, query, heads, size).transpose(1, 2)
        runs.append(_backward_of(out, operands, gradient))
    return make.rotate(runs)


def _attend(query: Tensor, key: Tensor, value: Tensor, causal: int) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=bool(causal))


class _Seed(torch.autograd.Function):
    """A scalar whose backward hands ``gradient`` to ``out``, without any kernel of its own."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, gradient: Tensor) -> Tensor:
        """Zero."""
        ctx.gradient = gradient
        return out.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """The given gradient."""
        return ctx.gradient, None


def _backward_of(out: Tensor, inputs: Sequence[Tensor], gradient: Tensor) -> Run:
    """The backward pass from ``out`` to ``inputs``. (``torch.autograd.grad`` would first import a compiler, for seconds.)"""
    seed = _Seed.apply(out, gradient)

    def run() -> object:
        seed.backward(retain_graph=True, inputs=list(inputs))
        kept = [tensor.grad for tensor in inputs]
        for tensor in inputs:
            tensor.grad = None
        return kept

    return run


def _elementwise(make: _Maker, shape: tuple[int, ...]) -> Run:
    elements, operands = shape
    runs: list[Run] = []
    for _ in range(make.num_sets(elements * operands)):
        if operands == 2:
            runs.append(_bind(torch.mul, make.random(elements), 0.5))
        else:
            runs.append(_bind(torch.add, make.random(elements), make.random(elements)))
    return make.rotate(runs)


def _strided_copy(make: _Maker, shape: tuple[int, ...]) -> Run:
    (elements,) = shape
    rows = max(1, elements // 256)
    sets = make.num_sets(elements * 2)
    return make.rotate([_bind(Tensor.contiguous, make.random(8, rows, 32).transpose(0, 1)) for _ in range(sets)])


def _activation(make: _Maker, shape: tuple[int, ...], *, function: Callable[[Tensor], Tensor], backward: bool) -> Run:
    (elements,) = shape
    runs: list[Run] = []
    for _ in range(make.num_sets(elements * 3)):
        x = make.random(elements).requires_grad_(backward)
        runs.append(_backward_of(function(x), (x,), make.random(elements)) if backward else _bind(function, x))
    return make.rotate(runs)


def _rotary(make: _Maker, shape: tuple[int, ...], *, backward: bool) -> Run:
    (elements,) = shape
    tokens = max(1, elements // 128)
    wide = torch.float64 if make.dtype is torch.float64 else torch.float32
    runs: list[Run] = []
    angles = torch.rand(tokens, 16, device=make.device, dtype=wide)
    factors = torch.polar(torch.ones_like(angles), angles)
    for _ in range(make.num_sets(elements * 2)):
        x = make.random(1, tokens, 4, 32).requires_grad_(backward)
        if backward:
            runs.append(_backward_of(_rotate(x, factors), (x,), make.random(1, tokens, 4, 32)))
        else:
            runs.append(_bind(_rotate, x, factors))
    return make.rotate(runs)


def _rotate(heads: Tensor, factors: Tensor) -> Tensor:
    wide = heads if heads.dtype in (torch.float32, torch.float64) else heads.float()
    pairs = torch.view_as_complex(wide.view(*wide.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * factors[:, None]).flatten(-2).to(heads.dtype)


def _norm(make: _Maker, shape: tuple[int, ...], *, backward: bool) -> Run:
    rows, width, code = shape
    weight = torch.ones(width, device=make.device, dtype=make.dtype, requires_grad=backward)

    def norm(x: Tensor) -> Tensor:
        return F.rms_norm(x, (width,), weight, 1e-5) if code == RMS_NORM else F.layer_norm(x, (width,), weight, None, 1e-5)

    runs: list[Run] = []
    for _ in range(make.num_sets(rows * width * 3)):
        x = make.random(rows, width).requires_grad_(backward)
        runs.append(_backward_of(norm(x), (x, weight), make.random(rows, width)) if backward else _bind(norm, x))
    return make.rotate(runs)


def _cross_entropy(make: _Maker, shape: tuple[int, ...]) -> Run:
    rows, vocabulary, product = shape
    backward = product != FORWARD
    runs: list[Run] = []
    one = torch.ones((), device=make.device)
    for _ in range(make.num_sets(rows * vocabulary * 2)):
        logits = make.random(rows, vocabulary).float().requires_grad_(backward)
        targets = make.indices(rows, vocabulary)
        if backward:
            runs.append(_backward_of(_loss(logits, targets), (logits,), one))
        else:
            runs.append(_bind(_loss, logits, targets))
    return make.rotate(runs)


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="sum", ignore_index=-100)


def _embedding(make: _Maker, shape: tuple[int, ...]) -> Run:
    tokens, width, rows, product = shape
    backward = product != FORWARD
    table = make.random(rows, width).requires_grad_(backward)
    runs: list[Run] = []
    for _ in range(make.num_sets(tokens * width)):
        indices = make.indices(tokens, rows)
        if backward:
            runs.append(_backward_of(F.embedding(indices, table), (table,), make.random(tokens, width)))
        else:
            runs.append(_bind(F.embedding, indices, table))
    return make.rotate(runs)


def _reduction(make: _Maker, shape: tuple[int, ...]) -> Run:
    (elements,) = shape
    return make.rotate([_bind(torch.linalg.vector_norm, make.random(elements)) for _ in range(make.num_sets(elements))])


def _optimizer(make: _Maker, shape: tuple[int, ...]) -> Run:
    (elements,) = shape
    weights, gradients, averages, squares = ([make.random(elements) for _ in range(OPTIMIZER_TENSORS)] for _ in range(4))
    for square in squares:
        square.abs_()
    steps = [torch.zeros((), device=make.device if make.device.type == "cuda" else "cpu") for _ in weights]

    def run() -> None:
        adamw(
            weights,
            gradients,
            averages,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.95,
            lr=1e-6,
            weight_decay=0.1,
            eps=1e-8,
            maximize=False,
        )

    return run


def _launch(make: _Maker, shape: tuple[int, ...]) -> Run:
    """A chain of views with autograd; the shape says which way: FORWARD builds it, INPUT_GRADIENT goes back through it."""
    (product,) = shape
    x = make.random(8, 8).requires_grad_(True)

    def chain() -> Tensor:
        out = x
        for _ in range(LAUNCH_CHAIN // 2):
            out = out.view(2, 4, 8).view(8, 8)
        return out

    if product == FORWARD:
        return chain
    return _backward_of(chain(), (x,), make.random(8, 8))


_MAKERS: dict[ProbeKernel, Callable[[_Maker, tuple[int, ...]], Run]] = {
    ProbeKernel.MATMUL: _matmul,
    ProbeKernel.BATCHED_MATMUL: _batched_matmul,
    ProbeKernel.ATTENTION_FORWARD: lambda make, shape: _attention(make, shape, backward=False),
    ProbeKernel.ATTENTION_BACKWARD: lambda make, shape: _attention(make, shape, backward=True),
    ProbeKernel.ELEMENTWISE: _elementwise,
    ProbeKernel.STRIDED_COPY: _strided_copy,
    ProbeKernel.SILU_FORWARD: lambda make, shape: _activation(make, shape, function=F.silu, backward=False),
    ProbeKernel.SILU_BACKWARD: lambda make, shape: _activation(make, shape, function=F.silu, backward=True),
    ProbeKernel.GELU_FORWARD: lambda make, shape: _activation(make, shape, function=F.gelu, backward=False),
    ProbeKernel.GELU_BACKWARD: lambda make, shape: _activation(make, shape, function=F.gelu, backward=True),
    ProbeKernel.ROTARY_FORWARD: lambda make, shape: _rotary(make, shape, backward=False),
    ProbeKernel.ROTARY_BACKWARD: lambda make, shape: _rotary(make, shape, backward=True),
    ProbeKernel.NORM_FORWARD: lambda make, shape: _norm(make, shape, backward=False),
    ProbeKernel.NORM_BACKWARD: lambda make, shape: _norm(make, shape, backward=True),
    ProbeKernel.CROSS_ENTROPY: _cross_entropy,
    ProbeKernel.EMBEDDING: _embedding,
    ProbeKernel.REDUCTION: _reduction,
    ProbeKernel.OPTIMIZER: _optimizer,
    ProbeKernel.LAUNCH: _launch,
}
