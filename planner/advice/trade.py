"""Time against cost over global batches and numbers of devices: the whole run, to the loss that the job asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from planner.advice.costs import Costs, workload
from planner.advice.noise import BatchTrade
from planner.advice.types import AdviceQuestion, TradePoint
from trimtab.estimate import Constant, Estimate, Origin
from trimtab.inventory import Shape
from trimtab.jobspec import Limits, Optimize
from trimtab.plan import FitVerdict
from trimtab.strategy import Strategy

BELOW, ABOVE = 16.0, 4.0
"""Batches are tried from the critical batch over BELOW to ABOVE times it."""
LEVEL = Constant(
    name="times that count as equal, share",
    value=0.1,
    origin=Origin.ASSUMED,
    source="the critical batch is known to a factor of 2 at best, and the hyperbola is not measured far below it",
)
"""Of batches whose runs are that close to the fastest, the largest is advised: it needs the fewest optimizer steps."""
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """The fastest strategy of one global batch on one shape."""

    shape: Shape
    strategy: Strategy
    fit: FitVerdict
    global_batch: int
    step_s: Estimate


def shapes_of(question: AdviceQuestion) -> tuple[Shape, ...]:
    """Numbers of devices to compare, in rising order: powers of two on one node, then whole nodes, and the most there are."""
    per_node = question.pool.devices_per_node
    counts = {1 << power for power in range(question.num_devices.bit_length())} | {question.num_devices}
    made: dict[Shape, None] = {}
    for count in sorted(counts):
        nodes, rest = divmod(count, per_node)
        shape = (
            Shape(num_nodes=1, devices_per_node=count) if count <= per_node else Shape(num_nodes=nodes, devices_per_node=per_node)
        )
        if not (count > per_node and rest) and question.min_devices <= count:
            made[shape] = None
    return tuple(made)


def batches_of(question: AdviceQuestion, critical: float | None) -> tuple[int, ...]:
    """Global batches to compare, in samples: powers of two around the critical batch, and the job's own."""
    own = workload(question).global_batch
    if critical is None:
        return (own,)
    first = max(0, math.floor(math.log2(max(1.0, critical / BELOW))))
    last = max(first, math.ceil(math.log2(max(1.0, critical * ABOVE))))
    return tuple(sorted({own, *(1 << power for power in range(first, last + 1))}))


def timed(costs: Costs, shape: Shape, global_batch: int) -> Timed | None:
    """The fastest strategy of a batch on a shape that surely fits, else that may fit; None where none does."""
    found = costs.found(shape, global_batch)[:1]
    if not found:
        return None
    (peak,), (step,) = costs.peaks(shape, found), costs.steps(shape, found)
    return Timed(shape=shape, strategy=found[0], fit=peak.fit, global_batch=global_batch, step_s=step)


def all_timed(question: AdviceQuestion, costs: Costs, batches: Sequence[int]) -> tuple[Timed, ...]:
    """The fastest strategy of every batch on every shape that runs the job at all.

    A large batch can be cut into as many micro-batches as one likes, so a shape that runs not even the largest runs none.
    """
    made: list[Timed] = []
    for shape in shapes_of(question):
        last = timed(costs, shape, max(batches))
        if last is not None:
            others = (timed(costs, shape, batch) for batch in batches if batch != last.global_batch)
            made += sorted((last, *(entry for entry in others if entry is not None)), key=lambda entry: entry.global_batch)
    return tuple(made)


def point_of(question: AdviceQuestion, entry: Timed, critical: Estimate | None) -> TradePoint:
    """The run of one batch: steps by the critical batch, its interval together with that of the step time."""
    train = workload(question)
    ends = (None,) if critical is None else (critical.value, critical.low, critical.high)
    runs = [BatchTrade(num_steps=train.num_steps, global_batch=train.global_batch, critical=end) for end in ends]
    counts = [run.steps_at(entry.global_batch) for run in runs]
    step = entry.step_s
    total = replace(
        step, value=step.value * counts[0], low=step.low * min(counts), high=step.high * max(counts), source="steps of the run"
    )
    rate = question.rate
    price = None if rate is None else rate.usd_per_device_hour * entry.shape.num_devices / SECONDS_PER_HOUR
    return TradePoint(
        num_devices=entry.shape.num_devices,
        strategy=entry.strategy,
        fit=entry.fit,
        global_batch=entry.global_batch,
        step_s=step,
        num_steps=counts[0],
        num_samples=runs[0].samples_at(entry.global_batch),
        total_s=total,
        cost_usd=None if price is None else total.scaled(price),
    )


def best_batch(points: Sequence[TradePoint], critical: Estimate | None) -> TradePoint:
    """Of the batches of one shape the one whose run ends first, among those that surely fit where there are any.

    Within ``LEVEL`` of the least time the largest batch is taken that is not above the critical one, unless the fastest is.
    ``points`` must not be empty.
    """
    usable = [point for point in points if point.fit is FitVerdict.FITS] or list(points)
    fastest = min(usable, key=lambda point: (point.total_s.value, point.global_batch))
    most = max(fastest.global_batch, critical.value if critical is not None else 0.0)
    longest_s = fastest.total_s.value * (1.0 + LEVEL.value)
    level = [point for point in usable if point.total_s.value <= longest_s and point.global_batch <= most]
    return max(level, key=lambda point: point.global_batch)


def expense(point: TradePoint) -> float:
    """What a run takes of money, or of device-seconds where no price is known."""
    return point.cost_usd.value if point.cost_usd is not None else point.total_s.value * point.num_devices


def front(points: Sequence[TradePoint]) -> tuple[TradePoint, ...]:
    """Those that no other beats in both time and expense, the slowest and cheapest first."""
    kept: list[TradePoint] = []
    for point in sorted(points, key=lambda p: (p.total_s.value, expense(p), p.num_devices)):
        if not kept or expense(point) < expense(kept[-1]):
            kept.append(point)
    return tuple(reversed(kept))


def knee(points: Sequence[TradePoint]) -> TradePoint:
    """The point of a front farthest below the straight line between its ends, time and expense on logarithmic scales.

    With fewer than three points, the cheapest.
    """
    if len(points) < 3:
        return points[0]
    xs = [math.log(point.total_s.value) for point in points]
    ys = [math.log(expense(point)) for point in points]
    run, rise = xs[0] - xs[-1], ys[-1] - ys[0]
    below = [(xs[0] - x) / run - (y - ys[0]) / rise for x, y in zip(xs, ys, strict=True)]
    return points[max(range(len(points)), key=lambda index: (below[index], -index))]


def within(limits: Limits, points: Sequence[TradePoint]) -> tuple[TradePoint, ...]:
    """Those that keep the job's limits on hours, cost and cost per hour; a cost that nobody knows keeps them."""

    def keeps(point: TradePoint) -> bool:
        hours = point.total_s.value / SECONDS_PER_HOUR
        cost = 0.0 if point.cost_usd is None else point.cost_usd.value
        pairs = ((hours, limits.max_hours), (cost, limits.max_cost_usd), (cost / hours, limits.max_usd_per_hour))
        return all(limit is None or value <= limit for value, limit in pairs)

    return tuple(point for point in points if keeps(point))


def chosen_for(optimize: Optimize, points: Sequence[TradePoint]) -> TradePoint:
    """The point of a front that the job's aim asks for: the fastest, the cheapest, else the knee."""
    if optimize is Optimize.TIME:
        return points[-1]
    return points[0] if optimize is Optimize.COST else knee(points)
