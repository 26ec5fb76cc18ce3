"""What a plot of candidates shows: time against cost, the front, and the memory of the best few. Pure data, no drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scheduler.service.figures import MEMORY_PARTS, Span, fullest
from trimtab.inventory import Inventory
from trimtab.plan import Candidate, FitVerdict

NUM_BARS = 5
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotPoint:
    """One candidate: hours and US dollars of the whole run. ``feasible``: it breaks no limit of the job."""

    time_h: Span
    cost_usd: Span
    device_type: str
    num_devices: int
    label: str
    feasible: bool
    on_front: bool
    marked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBar:
    """The fullest rank of a candidate, part by part in bytes, against what its device has."""

    label: str
    parts: tuple[tuple[str, float], ...]
    total_bytes: Span
    capacity_bytes: float
    marked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The whole plot. ``front`` are the indices of the points on the front, the fastest first; ``device_types`` in the order of
    the inventory; ``mark`` says what the marked point is."""

    title: str
    points: tuple[PlotPoint, ...]
    front: tuple[int, ...]
    bars: tuple[MemoryBar, ...]
    device_types: tuple[str, ...]
    mark: str


def front_of(pairs: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Indices of the pairs that no other one dominates (as small in both, smaller in one), ordered by the first number."""
    order = sorted(range(len(pairs)), key=lambda index: (pairs[index], index))
    front: list[int] = []
    for index in order:
        if not front or pairs[index][1] < pairs[front[-1]][1] or pairs[index] == pairs[front[-1]]:
            front.append(index)
    return tuple(front)


def picture(
    candidates: Sequence[Candidate],
    inventory: Inventory,
    *,
    title: str,
    is_feasible: Callable[[Candidate], bool],
    marked: Candidate | None,
    mark: str,
) -> Picture:
    """The plot of candidates whose time is predicted; the front is that of the feasible ones, of all where none is.

    ``marked`` is found again by offer, shape and strategy, and added where it is not among them.
    """
    shown = [candidate for candidate in candidates if candidate.total_s.value > 0]
    if marked is not None and marked.total_s.value > 0 and not any(_is_same(marked, other) for other in shown):
        shown.append(marked)
    feasible = [is_feasible(candidate) for candidate in shown]
    eligible = [index for index, good in enumerate(feasible) if good] or list(range(len(shown)))
    found = front_of([(shown[index].total_s.value, shown[index].cost_usd.value) for index in eligible])
    front = tuple(eligible[index] for index in found)
    on_front = set(front)
    is_marked = [marked is not None and _is_same(marked, candidate) for candidate in shown]
    points = tuple(
        _point(candidate, inventory, feasible=feasible[index], on_front=index in on_front, marked=is_marked[index])
        for index, candidate in enumerate(shown)
    )
    best = _best(shown, front, is_marked, eligible)
    bars = tuple(_bar(shown[index], inventory, marked=is_marked[index]) for index in best)
    present = {point.device_type for point in points}
    types = dict.fromkeys(str(pool.device_type) for pool in inventory.pools if pool.device_type in present)
    return Picture(title=title, points=points, front=front, bars=bars, device_types=tuple(types), mark=mark)


def _best(shown: Sequence[Candidate], front: Sequence[int], is_marked: Sequence[bool], eligible: Sequence[int]) -> list[int]:
    """The marked one, the front, then those that surely fit by time times cost: at most NUM_BARS that differ in more than the
    offer."""
    fitting = [index for index in eligible if shown[index].fit is FitVerdict.FITS]
    rest = sorted(fitting, key=lambda index: (shown[index].total_s.value * shown[index].cost_usd.value, index))
    order = [*(index for index, flag in enumerate(is_marked) if flag), *front, *rest]
    found: dict[object, int] = {}
    for index in order:
        candidate = shown[index]
        if candidate.memory:
            found.setdefault((candidate.pool_id, candidate.shape, candidate.strategy), index)
    return list(found.values())[:NUM_BARS]


def _is_same(one: Candidate, other: Candidate) -> bool:
    return (one.offer_id, one.shape, one.strategy) == (other.offer_id, other.shape, other.strategy)


def _point(candidate: Candidate, inventory: Inventory, *, feasible: bool, on_front: bool, marked: bool) -> PlotPoint:
    return PlotPoint(
        time_h=Span.of(candidate.total_s.scaled(1.0 / _SECONDS_PER_HOUR)),
        cost_usd=Span.of(candidate.cost_usd),
        device_type=str(inventory.pool(candidate.pool_id).device_type),
        num_devices=candidate.shape.num_devices,
        label=_label(candidate),
        feasible=feasible,
        on_front=on_front,
        marked=marked,
    )


def _bar(candidate: Candidate, inventory: Inventory, *, marked: bool) -> MemoryBar:
    rank = fullest(candidate.memory)
    return MemoryBar(
        label=_label(candidate),
        parts=tuple((name, float(getattr(rank, field))) for name, field in MEMORY_PARTS),
        total_bytes=Span.of(rank.total_bytes),
        capacity_bytes=float(inventory.device_type(inventory.pool(candidate.pool_id).device_type).memory_bytes),
        marked=marked,
    )


def _label(candidate: Candidate) -> str:
    strategy = candidate.strategy.label() if candidate.strategy is not None else ""
    return f"{candidate.shape.num_devices} × {candidate.pool_id}  {strategy}".rstrip()
