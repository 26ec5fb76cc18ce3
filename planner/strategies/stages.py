"""How the layers of a model are cut into pipeline stages."""

from __future__ import annotations

from functools import lru_cache

from planner.models.counts import head_flops, layer_flops
from trimtab.model import ModelSpec


def stage_splits(model: ModelSpec, num_stages: int, *, sequence_length: int, source_length: int) -> tuple[tuple[int, ...], ...]:
    """The splits worth trying, each a number of layers per stage, in the order of ``layers_in_order``.

    The even split (the first stages take one more where layers do not divide), and the split whose slowest stage has the least
    forward FLOPs when the head counts for the last stage. One entry where they agree; none where stages outnumber the layers.
    """
    return _stage_splits(model, num_stages, sequence_length, source_length)


@lru_cache(maxsize=1024)
def _stage_splits(model: ModelSpec, num_stages: int, sequence_length: int, source_length: int) -> tuple[tuple[int, ...], ...]:
    num_layers = model.num_layers
    if num_stages > num_layers:
        return ()
    costs = [
        layer_flops(model, stack, sequence_length=sequence_length, source_length=source_length).total
        for stack in model.stacks
        for _ in range(stack.num_layers)
    ]
    even = _even(num_layers, num_stages)
    balanced = _balanced(costs, head_flops(model, sequence_length=sequence_length), num_stages)
    slowest_even, slowest_balanced = (
        _slowest(costs, head_flops(model, sequence_length=sequence_length), split) for split in (even, balanced)
    )
    return (even, balanced) if slowest_balanced < slowest_even else (even,)


def _even(num_layers: int, num_stages: int) -> tuple[int, ...]:
    base, extra = divmod(num_layers, num_stages)
    return tuple(base + (1 if stage < extra else 0) for stage in range(num_stages))


def _slowest(costs: list[float], head: float, split: tuple[int, ...]) -> float:
    start, slowest = 0, 0.0
    for stage, count in enumerate(split):
        total = sum(costs[start : start + count]) + (head if stage == len(split) - 1 else 0.0)
        slowest = max(slowest, total)
        start += count
    return slowest


def _balanced(costs: list[float], head: float, num_stages: int) -> tuple[int, ...]:
    """The contiguous split with the least slowest stage, every stage with at least one layer.

    Bisection over the bound on a stage: a bound is feasible if filling stages greedily from the end (where the head sits) needs
    no more than ``num_stages``. Among the splits within that bound the one whose stages are most alike is taken.
    """
    low, high = max(max(costs), costs[-1] + head), sum(costs) + head
    for _ in range(60):
        middle = (low + high) / 2
        if _fill(costs, head, middle, num_stages) is None:
            low = middle
        else:
            high = middle
    split = _fill(costs, head, high, num_stages)
    assert split is not None, "the whole model always fits under the sum of its costs"
    levelled = _level(costs, head, high, num_stages)
    return levelled if levelled is not None else split


def _level(costs: list[float], head: float, bound: float, num_stages: int) -> tuple[int, ...] | None:
    """Stages filled from the end up to the mean of what is left, or None where that breaks ``bound``."""
    stages: list[int] = []
    position = len(costs)
    for left in range(num_stages, 0, -1):
        extra = head if left == num_stages else 0.0
        target = min(bound, (sum(costs[:position]) + extra) / left)
        count, total = 1, costs[position - 1] + extra
        while position - count > left - 1 and total + costs[position - count - 1] / 2 <= target:
            total += costs[position - count - 1]
            count += 1
        if total > bound * (1 + 1e-12):
            return None
        stages.append(count)
        position -= count
    return tuple(reversed(stages)) if position == 0 else None


def _fill(costs: list[float], head: float, bound: float, num_stages: int) -> tuple[int, ...] | None:
    """Layers per stage when stages are filled from the end up to ``bound``, or None where that needs too many stages."""
    stages: list[int] = []
    count, total = 0, head
    for position in range(len(costs) - 1, -1, -1):
        must_leave = num_stages - len(stages) - 1  # stages in front, which need one layer each
        full = count > 0 and (total + costs[position] > bound * (1 + 1e-12) or position + 1 <= must_leave)
        if full:
            stages.append(count)
            count, total = 0, 0.0
        count += 1
        total += costs[position]
    stages.append(count)
    return tuple(reversed(stages)) if len(stages) == num_stages else None
