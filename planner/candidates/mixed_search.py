"""The best plans of one job on groups of unlike devices: uneven pipelines, unlike replicas, or one group alone.

- An uneven pipeline has every stage on one group, as many data ranks everywhere, a tensor degree of its own for each group, and
  as many layers on each stage as its devices can do in time and hold.
- Unlike replicas are whole pipelines on each group, with their own degrees and micro-batches, and shares of the batch by speed.
- One group alone is searched in full (``search_grid``), so that nothing here is worse.

Choices have lower bounds, all at once; in their order layers and shares are chosen exactly, until no bound is below what is kept
or the budget of refinements is used. A layer is the mean of all layers of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import permutations, product

import numpy as np

from planner.candidates.mixed_pipelines import Bounds, Pipelines, Refined, Side, bounds_of, refine
from planner.candidates.mixed_plan import MixedJob, MixedPlan, MixedSearch, NodeSet
from planner.candidates.mixed_replicas import Paces, fewest_micro, shares_of
from planner.candidates.mixed_report import Reporter, Shared
from planner.candidates.search import Place, concatenated, job_of, search_grid
from planner.strategies import Question, StrategyTable, enumerate_grid
from planner.strategies.table import SCHEDULES, IntArray, dense
from planner.training.places import Array, place_arrays
from trimtab.inventory import Shape
from trimtab.strategy import Offload, PipelineSchedule

NUM_BEST = 10
NUM_REFINED = 50
"""Choices of each kind and order of groups whose layers and shares are chosen exactly."""
_CHUNK = 8
_ONE_F_ONE_B = SCHEDULES.index(PipelineSchedule.ONE_F_ONE_B)
_MOST_CHOICES = 4096
"""Combinations of unlike replicas that are bounded; of each group the options that are fastest at its usual share."""
_SHARED = ("micro_batch", "recompute", "zero_stage", "precision")


@dataclass(slots=True, kw_only=True)
class _Kept:
    """The fastest plans so far, and what the search has cost."""

    num_best: int
    plans: list[MixedPlan] = field(default_factory=list)
    num_refined: int = 0
    is_exact: bool = True

    @property
    def limit_s(self) -> float:
        """A plan is of use only below this."""
        return self.plans[-1].step_s.value if len(self.plans) == self.num_best else np.inf

    def add(self, plan: MixedPlan) -> None:
        """Keep a plan if it is among the best."""
        self.plans = sorted([*self.plans, plan], key=lambda kept: kept.step_s.value)[: self.num_best]


def search_mixed(job: MixedJob, *, num_best: int = NUM_BEST, num_refined: int = NUM_REFINED) -> MixedSearch:
    """The ``num_best`` fastest plans; none where nothing fits."""
    sides = tuple(_side(job, group) for group in job.groups)
    report = Reporter(job=job, sides=sides)
    kept = _Kept(num_best=num_best)
    num_one_type = num_pipelines = 0
    for number, side in enumerate(sides):
        grid = enumerate_grid(side.question)
        num_one_type += len(grid)
        found = search_grid(side.question, side.place, num_kept=num_best, grid=grid) if len(grid) else None
        for plan in report.one_type(number, found) if found is not None else ():
            kept.add(plan)
    for pipelines in _uneven(job, sides):
        num_pipelines += len(pipelines)
        _hunt_pipelines(pipelines, report, kept, num_refined=num_refined)
    num_replicas = _hunt_replicas(sides, report, kept, num_refined=num_refined) if len(sides) > 1 else 0
    return MixedSearch(
        best=tuple(kept.plans),
        num_pipelines=num_pipelines,
        num_replicas=num_replicas,
        num_one_type=num_one_type,
        num_refined=kept.num_refined,
        is_exact=kept.is_exact,
    )


def _side(job: MixedJob, group: NodeSet) -> Side:
    question = Question(
        model=job.model,
        train=job.train,
        device_type=group.device_type,
        shape=Shape(num_nodes=group.num_nodes, devices_per_node=group.devices_per_node),
        framework=job.framework,
    )
    arrays = place_arrays(group.device_type, devices_per_node=group.devices_per_node, link=group.link, network=group.network)
    place = Place(arrays=arrays, device_type=str(group.device_type.name), profile=job.profile)
    return Side(group=group, question=question, place=place, job=job_of(question), options=_options(question))


def _options(question: Question) -> StrategyTable:
    """The legal strategies of a group that its share of a mixed job may have: 1F1B, no context groups, optimizer state whole or
    spread over all replicas; sequence parallelism beside tensor parallelism where it is legal.
    """
    table = enumerate_grid(replace(question, offloads=(Offload.NONE,))).table
    simple = (table.cp == 1) & (table.schedule == _ONE_F_ONE_B) & (table.virtual_stages == 1)
    state = ((table.zero_stage == 0) & (table.fsdp == 1)) | ((table.zero_stage == 1) & (table.dp == 1))
    table = table.take(simple & state)
    with_sequence = np.unique(table.tp[table.sequence_parallel > 0])
    return table.take((table.sequence_parallel > 0) | ~np.isin(table.tp, with_sequence))


def _uneven(job: MixedJob, sides: tuple[Side, ...]) -> Iterator[Pipelines]:
    """Every pipeline over all groups, one table for each order of the groups."""
    if len(sides) < 2 or job.framework.even_stages:
        return
    rows = _joined(sides)
    tables = [side.options.take(rows[:, number]) for number, side in enumerate(sides)]
    counts = np.stack([table.pp for table in tables], axis=1)
    stages = counts.sum(axis=1)
    legal = stages <= min(sum(stack.num_layers for stack in job.model.stacks), job.framework.max_pipeline)
    legal &= (tables[0].num_micro_batches >= stages) | job.framework.few_micro_batches
    tables = [replace(table, pp=stages).take(legal) for table in tables]
    for order in permutations(range(len(sides))):
        yield Pipelines(
            sides=tuple(sides[k] for k in order),
            tables=tuple(tables[k] for k in order),
            counts=counts[legal][:, list(order)],
        )


def _joined(sides: tuple[Side, ...]) -> IntArray:
    """Options of all groups that can be stages of one pipeline, [N, G]: equal data ranks, micro-batch, recompute, state."""
    whole = concatenated([side.options for side in sides])
    code = np.zeros(len(whole), dtype=np.int64)
    for column in (whole.data_ranks, *(getattr(whole, name) for name in _SHARED)):
        code = dense(code * (int(column.max(initial=0)) + 1) + column)
    ends = np.cumsum([len(side.options) for side in sides])
    codes = np.split(code, ends[:-1])
    rows = [
        list(product(*(np.flatnonzero(own == value) for own in codes)))
        for value in sorted(set.intersection(*(set(own.tolist()) for own in codes)))
    ]
    return np.array([row for some in rows for row in some], dtype=np.int64).reshape(-1, len(sides))


def _hunt_pipelines(pipelines: Pipelines, report: Reporter, kept: _Kept, *, num_refined: int) -> None:
    """Refine pipelines in the order of their bounds."""
    if not len(pipelines):
        return
    bounds = bounds_of(pipelines, report.num_layers)
    least = report.whole_s(bounds.pipe_s(pipelines.micro, pipelines.num_stages))

    def keep(which: IntArray) -> None:
        some = pipelines.take(which)
        for position, refined in enumerate(refine(some, report.num_layers)):
            if refined is not None:
                plan = report.pipeline(some.take(np.array([position])), refined)
                if plan.step_s.value < kept.limit_s:
                    kept.add(plan)

    _hunt(least, keep, kept, num_refined=num_refined)


def _hunt(least_s: Array, keep: Callable[[IntArray], None], kept: _Kept, *, num_refined: int) -> None:
    """Offer choices to ``keep``, those with the smallest bounds first, some at a time."""
    order = np.argsort(least_s, kind="stable")
    order = order[np.isfinite(least_s[order])]
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        chunk = chunk[least_s[chunk] < kept.limit_s]
        if not len(chunk):
            return
        if start >= num_refined:
            kept.is_exact = False
            return
        keep(chunk)
        kept.num_refined += len(chunk)


def _hunt_replicas(sides: tuple[Side, ...], report: Reporter, kept: _Kept, *, num_refined: int) -> int:
    """Refine unlike replicas in the order of their bounds; how many there are."""
    alone = [Pipelines(sides=(side,), tables=(side.options,), counts=side.options.pp[:, None]) for side in sides]
    num_choices = int(np.prod([len(own) for own in alone], dtype=float))
    if num_choices == 0:
        return 0
    bounds = [bounds_of(own, report.num_layers) for own in alone]
    chosen = _fastest(alone, bounds, report.job.train.global_batch)
    if chosen is None:
        return num_choices
    kept.is_exact = kept.is_exact and all(
        len(own) == int(np.isfinite(b.slot_s).sum()) for own, b in zip(chosen, bounds, strict=True)
    )
    picked = np.stack(np.meshgrid(*chosen, indexing="ij"), axis=-1).reshape(-1, len(sides))
    paces = _paces(alone, bounds, picked)
    micro, possible = fewest_micro(paces, report.job.train.global_batch)
    least = np.where(possible, report.whole_s(paces.done(micro.astype(np.float64))), np.inf)

    mix = _Mix(alone=alone, report=report)

    def keep(which: IntArray) -> None:
        for position in which.tolist():
            plan = mix.plan(picked[position].tolist(), micro[position])
            if plan is not None and plan.step_s.value < kept.limit_s:
                kept.add(plan)

    _hunt(least, keep, kept, num_refined=num_refined)
    return num_choices


def _fastest(alone: list[Pipelines], bounds: list[Bounds], global_batch: int) -> list[IntArray] | None:
    """The options of each group that are fastest at the share that its fastest option has of all."""
    many = int(_MOST_CHOICES ** (1.0 / len(alone)))
    sizes = [own.tables[0].data_ranks * own.tables[0].micro_batch for own in alone]
    rates = [size / (b.slot_s + b.send_s) for size, b in zip(sizes, bounds, strict=True)]
    best = [float(rate.max(initial=0.0)) for rate in rates]
    if min(best) <= 0.0:
        return None
    chosen = []
    for own, b, size, rate in zip(alone, bounds, sizes, best, strict=True):
        micro = np.maximum(1, np.ceil(global_batch * rate / sum(best) / size)).astype(np.int64)
        order = np.argsort(b.pipe_s(micro, own.num_stages), kind="stable")
        chosen.append(order[np.isfinite(b.slot_s[order])][:many])
    return chosen


def _paces(alone: list[Pipelines], bounds: list[Bounds], picked: IntArray) -> Paces:
    """How long each group takes by its micro-batches, for each choice of options."""
    start = [b.sum_s - b.slot_s + (own.num_stages - 1.0) * b.send_s for own, b in zip(alone, bounds, strict=True)]

    def gathered(values: list[Array]) -> Array:
        return np.stack([own[picked[:, g]] for g, own in enumerate(values)], axis=1)

    return Paces(
        start_s=gathered(start),
        each_s=gathered([b.slot_s + b.send_s for b in bounds]),
        replicas=np.stack([own.tables[0].data_ranks[picked[:, g]] for g, own in enumerate(alone)], axis=1),
        micro_batch=np.stack([own.tables[0].micro_batch[picked[:, g]] for g, own in enumerate(alone)], axis=1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mix:
    """Makes plans of unlike replicas; a group's pipeline is refined once for all plans that it is part of."""

    alone: list[Pipelines]
    report: Reporter
    refined: dict[tuple[int, int, int], Refined | None] = field(default_factory=dict)

    def plan(self, options: list[int], micro: IntArray) -> MixedPlan | None:
        """The plan of one choice of options: layers for about that many micro-batches, then the shares for these layers."""
        global_batch = self.report.job.train.global_batch
        tables = [own.tables[0].take(np.array([option])) for own, option in zip(self.alone, options, strict=True)]
        replicas = np.array([int(table.data_ranks[0]) for table in tables])
        batches = np.array([int(table.micro_batch[0]) for table in tables])
        parts = self._parts(options, micro)
        if parts is None:
            return None
        paces = Paces(
            start_s=np.array([[part.pipe_s(0) for part in parts]]),
            each_s=np.array([[part.each_s for part in parts]]),
            replicas=replicas[None, :],
            micro_batch=batches[None, :],
        )
        found, possible = fewest_micro(paces, global_batch)
        shares = shares_of(replicas, batches, found[0], global_batch=global_batch) if possible[0] else None
        parts = self._parts(options, -(-shares // replicas)) if shares is not None else None
        if shares is None or parts is None:
            return None
        shared = [
            Shared(pipeline=self._pipeline(g, option, -(-int(share) // int(replicas[g]))), refined=part, share=int(share))
            for g, (option, part, share) in enumerate(zip(options, parts, shares, strict=True))
        ]
        return self.report.replicas(shared)

    def _parts(self, options: list[int], micro: IntArray) -> list[Refined] | None:
        """The refined pipeline of each group; None where one does not fit."""
        parts = []
        for key in zip(range(len(options)), options, micro.tolist(), strict=True):
            if key not in self.refined:
                self.refined[key] = refine(self._pipeline(*key), self.report.num_layers)[0]
            part = self.refined[key]
            if part is None:
                return None
            parts.append(part)
        return parts

    def _pipeline(self, group: int, option: int, num_micro_batches: int) -> Pipelines:
        one = self.alone[group].take(np.array([option]))
        table = replace(one.tables[0], num_micro_batches=np.array([num_micro_batches]))
        return replace(one, tables=(table,))
