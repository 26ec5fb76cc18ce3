"""What is measured: kernels with their shapes and precisions, and sizes of collectives. Meanings: ``docs/probe.md``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trimtab.inventory import DeviceKind, ProbeKernel
from trimtab.strategy import Precision

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = 0, 1, 2
"""Last entry of the shape of a linear layer's products."""

RMS_NORM, LAYER_NORM = 0, 1
"""Last entry of the shape of a norm."""


MAX_BUSY = 8
"""Points of one kernel that all ranks run at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One kernel at one shape and precision."""

    kernel: ProbeKernel
    precision: Precision
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The sizes to try; ``max_flops`` bounds one run of a matrix product, ``max_bytes`` one tensor."""

    rows: tuple[int, ...]
    widths: tuple[int, ...]
    max_flops: float
    elements: tuple[int, ...]
    lengths: tuple[int, ...]
    head_sizes: tuple[int, ...]
    vocabularies: tuple[int, ...]
    precisions: tuple[Precision, ...]
    collective_bytes: tuple[int, ...]


CPU_GRID = Grid(
    rows=(128, 1024, 4096),
    widths=(64, 192, 512, 2048),
    max_flops=0.6e9,
    elements=(1 << 12, 1 << 15, 1 << 18, 1 << 20, 1 << 22),
    lengths=(32, 128, 512),
    head_sizes=(32, 64),
    vocabularies=(512, 4096),
    precisions=(Precision.FP32, Precision.FP64, Precision.BF16),
    collective_bytes=(8, 4 << 10, 64 << 10, 512 << 10, 4 << 20),
)
CUDA_GRID = Grid(
    rows=(512, 4096, 16384),
    widths=(512, 2048, 8192, 28672),
    max_flops=16e12,
    elements=(1 << 12, 1 << 18, 1 << 22, 1 << 26, 1 << 28),
    lengths=(512, 2048, 8192),
    head_sizes=(64, 128),
    vocabularies=(4096, 131072),
    precisions=(Precision.BF16, Precision.TF32, Precision.FP32, Precision.FP64),
    collective_bytes=(8, 64 << 10, 1 << 20, 16 << 20, 256 << 20),
)
QUICK_GRID = Grid(
    rows=(512,),
    widths=(192, 512),
    max_flops=0.3e9,
    elements=(1 << 12, 1 << 18),
    lengths=(64,),
    head_sizes=(32,),
    vocabularies=(512,),
    precisions=(Precision.FP32,),
    collective_bytes=(8, 64 << 10),
)


def grid(kind: DeviceKind, *, quick: bool) -> Grid:
    """The grid of a kind of device. Raises ValueError for a kind that cannot be probed."""
    if quick:
        return QUICK_GRID
    if kind is DeviceKind.CPU:
        return CPU_GRID
    if kind is DeviceKind.GPU:
        return CUDA_GRID
    raise ValueError(f"devices of kind {kind} cannot be probed; allowed: {DeviceKind.CPU}, {DeviceKind.GPU}")


def kernel_points(sizes: Grid) -> tuple[Point, ...]:
    """Every kernel point of a grid. The first precision gets all kernels, the others a few products and attention."""
    first, *others = sizes.precisions
    points = [
        Point(kernel=ProbeKernel.LAUNCH, precision=first, shape=(FORWARD,)),
        Point(kernel=ProbeKernel.LAUNCH, precision=first, shape=(INPUT_GRADIENT,)),
    ]
    points += [*_matmuls(sizes, first), *_attention(sizes, first), *_streams(sizes, first), *_rows(sizes, first)]
    for precision in others:
        points += _matmuls(_thinned(sizes), precision)
        points += _attention(_thinned(sizes), precision)
    return tuple(points)


def busy_points(sizes: Grid) -> frozenset[Point]:
    """The points that all ranks also run at once: a few of each kernel, spread over its sizes, to know how it slows."""
    of_kernel: dict[ProbeKernel, list[Point]] = {}
    for point in kernel_points(sizes):
        if point.precision is sizes.precisions[0]:
            of_kernel.setdefault(point.kernel, []).append(point)
    chosen: set[Point] = set()
    for points in of_kernel.values():
        points.sort(key=lambda point: (math.prod(max(1, size) for size in point.shape), point.shape))
        count = min(len(points), MAX_BUSY)
        chosen |= {points[(2 * index + 1) * len(points) // (2 * count)] for index in range(count)}
    return frozenset(chosen)


def _thinned(sizes: Grid) -> Grid:
    """A few middle sizes, to scale the full grid to another precision."""
    return Grid(
        rows=sizes.rows[1:2] or sizes.rows,
        widths=sizes.widths[1:2],
        max_flops=sizes.max_flops,
        elements=(),
        lengths=sizes.lengths[len(sizes.lengths) // 2 :][:1],
        head_sizes=sizes.head_sizes[:1],
        vocabularies=(),
        precisions=sizes.precisions,
        collective_bytes=(),
    )


def _matmuls(sizes: Grid, precision: Precision) -> list[Point]:
    out = []
    for rows in sizes.rows:
        for inner in sizes.widths:
            for columns in sizes.widths:
                if 2.0 * rows * inner * columns > sizes.max_flops:
                    continue
                out += [
                    Point(kernel=ProbeKernel.MATMUL, precision=precision, shape=(rows, inner, columns, product))
                    for product in (FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT)
                ]
    out += [
        Point(kernel=ProbeKernel.BATCHED_MATMUL, precision=precision, shape=(16, length, size, length))
        for length in sizes.lengths[:1]
        for size in sizes.head_sizes[:1]
    ]
    return out


def _attention(sizes: Grid, precision: Precision) -> list[Point]:
    tokens = sizes.lengths[-1] * 2
    out = []
    for length in sizes.lengths:
        for size in sizes.head_sizes:
            heads, batch = 4, max(1, tokens // length)
            for causal in (1, 0) if size == sizes.head_sizes[0] else (1,):
                shape = (batch, heads, length, length, size, causal)
                out.append(Point(kernel=ProbeKernel.ATTENTION_FORWARD, precision=precision, shape=shape))
                out.append(Point(kernel=ProbeKernel.ATTENTION_BACKWARD, precision=precision, shape=shape))
    return out


def _streams(sizes: Grid, precision: Precision) -> list[Point]:
    out = []
    for elements in sizes.elements:
        for operands in (2, 3):
            out.append(Point(kernel=ProbeKernel.ELEMENTWISE, precision=precision, shape=(elements, operands)))
        for kernel in _STREAM_KERNELS:
            out.append(Point(kernel=kernel, precision=precision, shape=(elements,)))
    return out


_STREAM_KERNELS = (
    ProbeKernel.STRIDED_COPY,
    ProbeKernel.SILU_FORWARD,
    ProbeKernel.SILU_BACKWARD,
    ProbeKernel.GELU_FORWARD,
    ProbeKernel.GELU_BACKWARD,
    ProbeKernel.ROTARY_FORWARD,
    ProbeKernel.ROTARY_BACKWARD,
    ProbeKernel.REDUCTION,
    ProbeKernel.OPTIMIZER,
)


def _rows(sizes: Grid, precision: Precision) -> list[Point]:
    out = []
    for rows in sizes.rows:
        for width in sizes.widths[1:3]:
            for code in (RMS_NORM, LAYER_NORM):
                shape = (rows, width, code)
                out.append(Point(kernel=ProbeKernel.NORM_FORWARD, precision=precision, shape=shape))
                out.append(Point(kernel=ProbeKernel.NORM_BACKWARD, precision=precision, shape=shape))
    for rows in sizes.rows[:3]:
        for vocabulary in sizes.vocabularies:
            for product in (FORWARD, INPUT_GRADIENT):
                shape = (rows, vocabulary, product)
                out.append(Point(kernel=ProbeKernel.CROSS_ENTROPY, precision=precision, shape=shape))
            for product in (FORWARD, WEIGHT_GRADIENT):
                table = (rows, sizes.widths[min(1, len(sizes.widths) - 1)], vocabulary, product)
                out.append(Point(kernel=ProbeKernel.EMBEDDING, precision=precision, shape=table))
    return out
