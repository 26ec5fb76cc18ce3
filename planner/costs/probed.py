"""Kernel times from what a probe measured on the node.

A kernel's time is ``launch + amount / rate``: the launch is measured, and the logarithm of the rate is interpolated over the
logarithm of the shape between the nearest measured points of the same kind (inverse distance), so that it is exact at a measured
shape and flat beyond the last. Slow-down while all ranks work comes from points run both ways. Times of collectives rise with
the bytes (isotonic regression over the points), are linear between them, and grow with the last slope beyond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from planner.costs.collectives import ring_hops, ring_volume_frac
from planner.costs.constants import PROBED_ERROR_FRAC
from planner.costs.kernels import arithmetic
from planner.costs.operations import ELEMENT_BYTES
from planner.costs.roofline import RooflineTimes
from planner.costs.types import ConstantLog, Exchange, RankSpan, Seconds, Work
from trimtab.estimate import Constant, Origin
from trimtab.inventory import DeviceKind, ProbeKernel
from trimtab.strategy import Precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from planner.costs.types import DeviceContext
    from trimtab.inventory import ProbePoint, ProbeReport

NEIGHBOURS = 6
DISTANCE_POWER = 3.0
MIN_KERNEL_SHARE = 0.2
"""A kernel keeps at least this share of its measured time when the launch is taken off."""

FIXED = frozenset({ProbeKernel.LAUNCH, ProbeKernel.CHECKPOINT_LAUNCH, ProbeKernel.UNIT_LAUNCH, ProbeKernel.RANK_START})
COLLECTIVES = frozenset({ProbeKernel.ALL_REDUCE, ProbeKernel.ALL_GATHER, ProbeKernel.REDUCE_SCATTER, ProbeKernel.SEND_RECEIVE})
_NUM_SIZES = {
    ProbeKernel.MATMUL: 3,
    ProbeKernel.BATCHED_MATMUL: 4,
    ProbeKernel.ATTENTION_FORWARD: 5,
    ProbeKernel.ATTENTION_BACKWARD: 5,
    ProbeKernel.NORM_FORWARD: 2,
    ProbeKernel.NORM_BACKWARD: 2,
    ProbeKernel.CROSS_ENTROPY: 2,
    ProbeKernel.EMBEDDING: 3,
}
"""How many entries of a shape are sizes (1 where not named); what follows tells kinds of the kernel apart."""


@dataclass(frozen=True, slots=True)
class _Known:
    """One measured point of a kernel: logarithms of its sizes, log of its rate, spread and repeats."""

    sizes: tuple[float, ...]
    log_rate: float
    error_frac: float


class ProbedTimes:
    """The provider over one ProbeReport; what the probe did not measure comes from the roofline of the measured device type."""

    def __init__(self, context: DeviceContext, report: ProbeReport, *, num_ranks: int) -> None:
        self._context = context
        self._report = report
        self._num_ranks = num_ranks
        self._roofline = RooflineTimes(context, num_ranks=num_ranks)
        self._log = ConstantLog()
        self._tables = _tables_of(report)
        self.overlaps = context.device_type.kind is not DeviceKind.CPU

    def constants(self) -> tuple[Constant, ...]:
        """Measured figures in brief, the model's own error, and what the roofline lent."""
        return (*self._log.all(), *self._roofline.constants())

    def renewed(self) -> ProbedTimes:
        """The same provider, with no figures used so far."""
        return ProbedTimes(self._context, self._report, num_ranks=self._num_ranks)

    def kernel(self, work: Work, precision: Precision) -> Seconds:
        """Interpolated time of the kernel with this provider's number of ranks at work."""
        cache = self._tables.cache
        key = (self._num_ranks, work.kernel, work.shape, precision)
        found = cache.get(key)
        if found is None:
            measured = self._kernel(work, precision)
            if measured is None:
                return self._roofline.kernel(work, precision)
            found = cache[key] = measured
        if work.kernel is ProbeKernel.MATMUL:
            rows, inner, columns = work.shape[:3]
            self._note(f"matmul {precision}, FLOP/s at {rows} x {inner} x {columns}", 2.0 * rows * inner * columns / found.value)
        self._log.note(PROBED_ERROR_FRAC.constant())
        return found

    def exchange(self, exchange: Exchange, spans: Mapping[str, RankSpan]) -> Seconds:
        """Measured inside a node; a group that spans nodes adds the roofline's network time where that is longer."""
        span = spans[exchange.group]
        if span.size == 1:
            return Seconds(value=0.0, error_frac=0.0)
        inside = self._tables.collective(exchange.kernel, exchange.num_bytes, span.per_node)
        if inside is None or span.per_node == 1:
            return self._roofline.exchange(exchange, spans)
        self._note(f"{exchange.kernel} between {span.per_node} ranks, seconds for {exchange.num_bytes:.3g} bytes", inside.value)
        if span.num_nodes == 1:
            return inside
        across = self._roofline.exchange(exchange, spans)
        return across if across.value > inside.value else inside

    def _kernel(self, work: Work, precision: Precision) -> Seconds | None:
        if work.kernel in FIXED:
            return self._tables.fixed(work, self._num_ranks)
        alone = self._tables.alone(work, precision)
        if alone is None:
            return None
        slowdown = self._tables.slowdown(work, self._num_ranks)
        return Seconds(value=alone.value * slowdown, error_frac=math.hypot(alone.error_frac, PROBED_ERROR_FRAC.value))

    def _note(self, name: str, value: float) -> None:
        source = f"trimtab probe {self._report.fingerprint} of {self._report.measured_at.date().isoformat()}"
        self._log.note(Constant(name=name, value=value, origin=Origin.MEASURED, source=source))


class _Tables:
    """Measured points, sorted by what they can be compared with. ``cache`` holds kernel times that were interpolated before."""

    def __init__(self, report: ProbeReport) -> None:
        self.cache: dict[tuple[int, ProbeKernel, tuple[int, ...], Precision], Seconds] = {}
        self._fixed: dict[tuple[ProbeKernel, tuple[int, ...]], list[ProbePoint]] = {}
        self._collectives: dict[tuple[ProbeKernel, int], list[tuple[float, float, float]]] = {}
        self._seconds: dict[tuple[ProbeKernel, str, tuple[int, ...], int], ProbePoint] = {}
        self._known: dict[tuple[ProbeKernel, str, tuple[int, ...]], list[_Known]] = {}
        self._ratios: dict[tuple[ProbeKernel, Precision], float] = {}
        for point in report.points:
            if point.kernel in FIXED:
                self._fixed.setdefault((point.kernel, point.shape), []).append(point)
            elif point.kernel not in COLLECTIVES:
                self._seconds[point.kernel, point.precision, point.shape, point.num_ranks] = point
        self._launch_s = self._typical_launch()
        for point in report.points:
            if point.kernel not in FIXED and point.kernel not in COLLECTIVES and point.num_ranks == 1:
                sizes, kind = _split(point.kernel, point.shape)
                self._known.setdefault((point.kernel, point.precision, kind), []).append(self._know(point, sizes))
        self._build_collectives(report.points)
        self._slowdowns = self._build_slowdowns(report.points)

    def fixed(self, work: Work, num_ranks: int) -> Seconds | None:
        """A cost without sizes, at the nearest measured number of ranks."""
        points = self._fixed.get((work.kernel, work.shape))
        if not points:
            return None
        nearest = min(points, key=lambda point: abs(point.num_ranks - num_ranks))
        return Seconds(value=nearest.seconds, error_frac=_error(nearest))

    def alone(self, work: Work, precision: Precision) -> Seconds | None:
        """One run of the kernel with the device to itself; None where nothing comparable was measured."""
        sizes, kind = _split(work.kernel, work.shape)
        full = self._known.get((work.kernel, str(Precision.FP32), kind)) or self._first(work.kernel, kind)
        own = self._known.get((work.kernel, str(precision), kind))
        scale = 1.0
        points = own if own and (full is None or len(own) >= len(full)) else full
        if not points:
            return None
        if points is not own:
            scale = self._precision_ratio(work.kernel, precision)
        log_rate, error = _interpolate(tuple(math.log(max(1, size)) for size in sizes), points)
        return Seconds(value=self._launch_s + _amount(work) / math.exp(log_rate) * scale, error_frac=error)

    def slowdown(self, work: Work, num_ranks: int) -> float:
        """How much longer the kernel takes while ``num_ranks`` ranks run it, over the log of ranks and of its amount."""
        if num_ranks == 1:
            return 1.0
        points = self._slowdowns.get(work.kernel)
        if not points:
            return 1.0
        most = max(count for count, _, _ in points)
        amount = math.log(max(1.0, _amount(work)))
        near = sorted((abs(amount - place), ratio) for count, place, ratio in points if count == most)[:4]
        weights = [1.0 / (0.5 + distance) for distance, _ in near]
        ratio = sum(weight * value for weight, (_, value) in zip(weights, near, strict=True)) / sum(weights)
        share = min(1.0, math.log2(num_ranks) / math.log2(most))
        return 1.0 + max(0.0, ratio - 1.0) * share

    def collective(self, kernel: ProbeKernel, num_bytes: float, num_ranks: int) -> Seconds | None:
        """One collective inside a node; another number of ranks than measured scales latency by hops and the rest by volume."""
        counts = [count for name, count in self._collectives if name is kernel]
        if not counts:
            return None
        nearest = min(counts, key=lambda count: (abs(count - num_ranks), count))
        points = self._collectives[kernel, nearest]
        seconds, error = _along(num_bytes, points)
        if nearest != num_ranks and kernel is not ProbeKernel.SEND_RECEIVE:
            latency = min(seconds, points[0][1])
            hops = ring_hops(kernel, num_ranks) / ring_hops(kernel, nearest)
            volume = ring_volume_frac(kernel, num_ranks) / ring_volume_frac(kernel, nearest)
            seconds = latency * hops + (seconds - latency) * volume
        return Seconds(value=seconds, error_frac=math.hypot(error, PROBED_ERROR_FRAC.value))

    def _typical_launch(self) -> float:
        points = self._fixed.get((ProbeKernel.LAUNCH, (0,)), [])
        return min((point.seconds for point in points), default=0.0)

    def _know(self, point: ProbePoint, sizes: tuple[int, ...]) -> _Known:
        seconds = max(point.seconds - self._launch_s, point.seconds * MIN_KERNEL_SHARE)
        work = Work(kernel=point.kernel, shape=point.shape)
        return _Known(tuple(math.log(max(1, size)) for size in sizes), math.log(_amount(work) / seconds), _error(point))

    def _first(self, kernel: ProbeKernel, kind: tuple[int, ...]) -> list[_Known] | None:
        candidates = [points for (name, _, own), points in self._known.items() if name is kernel and own == kind]
        return max(candidates, key=len, default=None)

    def _precision_ratio(self, kernel: ProbeKernel, precision: Precision) -> float:
        """Median of measured ratios to fp32 at equal shapes; by bytes where the kernel was not measured in that precision."""
        key = (kernel, precision)
        if key not in self._ratios:
            ratios = sorted(
                point.seconds / base.seconds
                for (name, own, shape, count), point in self._seconds.items()
                if name is kernel and own == precision and (base := self._seconds.get((name, "fp32", shape, count)))
            )
            by_bytes = max(1.0, ELEMENT_BYTES[precision] / ELEMENT_BYTES[Precision.FP32])
            self._ratios[key] = ratios[len(ratios) // 2] if ratios else by_bytes
        return self._ratios[key]

    def _build_collectives(self, points: Iterable[ProbePoint]) -> None:
        grouped: dict[tuple[ProbeKernel, int], list[ProbePoint]] = {}
        for point in points:
            if point.kernel in COLLECTIVES:
                grouped.setdefault((point.kernel, point.num_ranks), []).append(point)
        for key, own in grouped.items():
            own.sort(key=lambda point: point.shape)
            times = isotonic([point.seconds for point in own], [float(point.repeats) for point in own])
            self._collectives[key] = [
                (float(point.shape[0]), seconds, _error(point)) for point, seconds in zip(own, times, strict=True)
            ]

    def _build_slowdowns(self, points: Iterable[ProbePoint]) -> dict[ProbeKernel, list[tuple[int, float, float]]]:
        out: dict[ProbeKernel, list[tuple[int, float, float]]] = {}
        for point in points:
            if point.kernel in FIXED or point.kernel in COLLECTIVES or point.num_ranks == 1:
                continue
            base = self._seconds.get((point.kernel, point.precision, point.shape, 1))
            if base is not None:
                amount = _amount(Work(kernel=point.kernel, shape=point.shape))
                entry = (point.num_ranks, math.log(max(1.0, amount)), point.seconds / base.seconds)
                out.setdefault(point.kernel, []).append(entry)
        return out


_RECENT: dict[int, tuple[ProbeReport, _Tables]] = {}
_NUM_RECENT = 8


def _tables_of(report: ProbeReport) -> _Tables:
    """The tables of a report; those of the last few reports are kept, since a plan asks thousands of times."""
    found = _RECENT.get(id(report))
    if found is None:
        while len(_RECENT) >= _NUM_RECENT:
            _RECENT.pop(next(iter(_RECENT)))
        found = _RECENT[id(report)] = (report, _Tables(report))
    return found[1]


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest to ``values`` in weighted least squares (pool adjacent violators)."""
    blocks: list[list[float]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append([value, weight, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            value_b, weight_b, count_b = blocks.pop()
            value_a, weight_a, count_a = blocks.pop()
            total = weight_a + weight_b
            blocks.append([(value_a * weight_a + value_b * weight_b) / total, total, count_a + count_b])
    return [value for value, _, count in blocks for _ in range(int(count))]


def _interpolate(sizes: tuple[float, ...], points: Sequence[_Known]) -> tuple[float, float]:
    """Inverse-distance mean of the log rates of the nearest points, and the like mean of their errors."""
    near = sorted((math.dist(sizes, point.sizes), index) for index, point in enumerate(points))[:NEIGHBOURS]
    if near[0][0] < 1e-9:
        exact = points[near[0][1]]
        return exact.log_rate, exact.error_frac
    weights = [distance**-DISTANCE_POWER for distance, _ in near]
    total = sum(weights)
    log_rate = sum(weight * points[index].log_rate for weight, (_, index) in zip(weights, near, strict=True)) / total
    error = sum(weight * points[index].error_frac for weight, (_, index) in zip(weights, near, strict=True)) / total
    return log_rate, error


def _along(num_bytes: float, points: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Linear between (bytes, seconds) points, flat before the first, with the last slope after the last."""
    if num_bytes <= points[0][0] or len(points) == 1:
        return points[0][1], points[0][2]
    for (bytes_a, seconds_a, _), (bytes_b, seconds_b, error_b) in pairwise(points):
        if num_bytes <= bytes_b:
            return seconds_a + (seconds_b - seconds_a) * (num_bytes - bytes_a) / (bytes_b - bytes_a), error_b
    (bytes_a, seconds_a, _), (bytes_b, seconds_b, error_b) = points[-2:]
    slope = (seconds_b - seconds_a) / (bytes_b - bytes_a)
    return seconds_b + slope * (num_bytes - bytes_b), error_b


def _split(kernel: ProbeKernel, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    count = _NUM_SIZES.get(kernel, 1)
    return shape[:count], shape[count:]


def _amount(work: Work) -> float:
    """What the kernel's time grows with: FLOPs where it has any, bytes otherwise; the same in each precision."""
    flops, num_bytes = arithmetic(work, Precision.FP32)
    return flops or num_bytes


def _error(point: ProbePoint) -> float:
    """Error of the mean of a point: its spread shrinks with the root of the repeats."""
    return min(1.0, point.spread_frac / math.sqrt(max(1, point.repeats)) * 1.25)
