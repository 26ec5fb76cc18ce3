"""The fastest, the cheapest and all that lies between, over many device types and counts: exact, by bounds.

Each offer (a question on one shape of one device type, with a price) has one strategy that is both its fastest and its cheapest.
An offer is enumerated only where its bound, from work and peak alone, is not dominated by what was found, and searched only for
strategies faster than that.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from planner.candidates.search import Place, job_of, plain_table, search_plain
from planner.strategies import Question, StrategyTable, device_key
from planner.training.bound import Work, work_of
from trimtab.strategy import Strategy

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Devices that a job may run on; without a price it takes part in the race for the fastest only."""

    question: Question
    place: Place
    usd_per_device_hour: float | None = None

    @property
    def usd_per_s(self) -> float:
        """Price of all its devices; infinite where there is none."""
        if self.usd_per_device_hour is None:
            return float("inf")
        return self.usd_per_device_hour * self.question.shape.num_devices / SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The best of one offer: position of the offer, its strategy, seconds and dollars of a step (infinite without a price)."""

    offer: int
    strategy: Strategy
    step_s: float
    step_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Points that none beats in both time and cost, the fastest first; ``fastest`` may have no price.

    ``num_searched`` of the offers were enumerated, ``num_timed`` strategies timed in full.
    """

    points: tuple[Point, ...]
    fastest: Point | None
    num_searched: int
    num_timed: int

    @property
    def cheapest(self) -> Point | None:
        """The point that costs least."""
        return self.points[-1] if self.points else None


def search_front(offers: Sequence[Offer]) -> Front:
    """The fastest strategy of all offers, and the Pareto front of time and cost; of equal points the first found is kept."""
    bounds = _bounds_s(offers)
    order = sorted(range(len(offers)), key=lambda i: (bounds[i] ** 2 * min(offers[i].usd_per_s, 1e9), bounds[i], i))
    tables: dict[Hashable, StrategyTable] = {}
    found: list[Point] = []
    num_searched = num_timed = 0
    for position in order:
        offer = offers[position]
        limit = _useful_s(found, offer)
        if bounds[position] >= limit:
            continue
        key = _key(offer.question)
        if key not in tables:
            tables[key] = plain_table(offer.question)
        answer = search_plain(offer.question, offer.place, tables[key], num_kept=1, limit_s=limit)
        num_searched, num_timed = num_searched + 1, num_timed + answer.num_timed
        if len(answer.best):
            step_s = float(answer.step_s[0])
            strategy = answer.best.strategy(0)
            found.append(Point(offer=position, strategy=strategy, step_s=step_s, step_usd=step_s * offer.usd_per_s))
    return Front(
        points=_undominated(found),
        fastest=min(found, key=lambda point: (point.step_s, point.step_usd), default=None),
        num_searched=num_searched,
        num_timed=num_timed,
    )


def _bounds_s(offers: Sequence[Offer]) -> list[float]:
    """Seconds that a step takes at least on each offer; the work is computed once for all counts of a device type."""
    works: dict[Hashable, Work] = {}
    bounds = []
    for offer in offers:
        question, place, arrays = offer.question, offer.place, offer.place.arrays
        precisions = question.precisions or (question.train.precision,)
        seen = (arrays.peak.tobytes(), *(float(a[0]) for a in (arrays.half_peak, arrays.memory_bandwidth, arrays.is_tpu)))
        key = (question.model, question.train, precisions, place.device_type, place.profile, id(place.constants), seen)
        if key not in works:
            job = job_of(question)
            ask = partial(place.asked, job)
            works[key] = work_of(ask, question.model, global_batch=question.train.global_batch, precisions=precisions)
        num_devices, node = question.shape.num_devices, int(arrays.devices_per_node[0])
        bounds.append(works[key].bound_s(num_devices=num_devices, devices_per_node=node))
    return bounds


def _useful_s(found: Sequence[Point], offer: Offer) -> float:
    """A step of this offer is of use only if it is shorter: else some point is as fast and costs no more."""
    return min((max(point.step_s, point.step_usd / offer.usd_per_s) for point in found if _beats(point, offer)), default=np.inf)


def _beats(point: Point, offer: Offer) -> bool:
    """Whether a point can dominate: one without a price dominates only what has none either."""
    return point.step_usd < np.inf or offer.usd_per_device_hour is None


def _undominated(found: Sequence[Point]) -> tuple[Point, ...]:
    kept: list[Point] = []
    for point in sorted(found, key=lambda p: (p.step_s, p.step_usd)):
        if point.step_usd < (kept[-1].step_usd if kept else np.inf):
            kept.append(point)
    return tuple(kept)


def _key(question: Question) -> Hashable:
    """Questions of equal keys have equal strategies."""
    asked = (question.model, question.train, question.shape, question.request, question.framework.name)
    return (*asked, question.precisions, question.offloads, device_key(question))
