"""Warnings of batch advice: where a batch, or data parallelism itself, does not suit the data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from planner.advice.micro import Site, bare, sized_strategies
from planner.advice.noise import effective_samples, examples_multiplier, steps_multiplier
from planner.advice.trade import within
from planner.advice.types import AdviceQuestion, AdviceWarning, AdviceWarningKind, TradePoint
from trimtab.estimate import Constant, Estimate, Origin
from trimtab.plan import FitVerdict

FEW_STEPS = Constant(
    name="few steps per epoch",
    value=50.0,
    origin=Origin.ASSUMED,
    source="a schedule with warm-up needs tens of updates; fewer per pass leave little to average over",
)
MOST_EPOCHS = Constant(
    name="epochs that cost nothing",
    value=4.0,
    origin=Origin.PUBLISHED,
    source="Muennighoff et al., arXiv 2305.16264",
)
MOST_DROPPED_FRAC = Constant(
    name="much data in the last batch, share", value=0.05, origin=Origin.ASSUMED, source="twenty steps per epoch"
)
MOST_WAITING_FRAC = Constant(
    name="much gain of larger micro-batches",
    value=0.15,
    origin=Origin.ASSUMED,
    source="beyond the error of a calibrated step time",
)
WARNING_CONSTANTS = (FEW_STEPS, MOST_EPOCHS, MOST_DROPPED_FRAC, MOST_WAITING_FRAC)


def warnings(
    site: Site, point: TradePoint, *, critical: Estimate | None, asked_batch: int, epochs: float | None
) -> Iterator[AdviceWarning]:
    """What to know of the recommended point and of the batch that the job asks for."""
    if critical is None:
        text = (
            "no published law gives the critical batch of this kind of model, so the job's own batch is kept: measure the "
            "gradient noise and give it with --noise-scale"
        )
        yield AdviceWarning(kind=AdviceWarningKind.NO_RULE, text=text)
    else:
        yield from _above(critical, asked_batch, "the job's global batch")
        if point.global_batch != asked_batch:
            yield from _above(critical, point.global_batch, "the advised global batch")
    yield from _data(site.question, point, epochs)
    yield from _devices(point, asked_batch)
    yield from _small(site, point)
    if not within(site.question.spec.limits, (point,)):
        text = "the advised run breaks the job's limits on hours or cost"
        yield AdviceWarning(kind=AdviceWarningKind.OVER_LIMITS, text=text)
    if point.fit is FitVerdict.TIGHT:
        text = "no strategy surely fits: the upper end of the memory interval is above what a device has"
        yield AdviceWarning(kind=AdviceWarningKind.TIGHT_MEMORY, text=text)


def _above(critical: Estimate, batch: int, name: str) -> Iterator[AdviceWarning]:
    if batch <= critical.value:
        return
    samples, steps = examples_multiplier(batch, critical.value), steps_multiplier(batch, critical.value)
    doubled = steps / steps_multiplier(2.0 * batch, critical.value)
    text = (
        f"{name} {batch:,} is above the critical batch {critical.value:,.0f} ({critical.low:,.0f} to {critical.high:,.0f}): it "
        f"takes {samples:.1f} times the least samples, and doubling it would save {1.0 - 1.0 / doubled:.0%} of the steps for "
        f"{examples_multiplier(2.0 * batch, critical.value) / samples - 1.0:.0%} more samples"
    )
    yield AdviceWarning(kind=AdviceWarningKind.ABOVE_CRITICAL_BATCH, text=text)


def _data(question: AdviceQuestion, point: TradePoint, epochs: float | None) -> Iterator[AdviceWarning]:
    size = question.data_samples
    if size is None or epochs is None:
        return
    batch = point.global_batch
    steps = size / batch
    if steps < FEW_STEPS.value:
        ranks = point.strategy.data_ranks
        most = max(1, math.floor(size / FEW_STEPS.value))
        text = (
            f"the data set has {size:,.0f} samples, {steps:,.1f} global batches of {batch:,} per epoch (fewer than "
            f"{FEW_STEPS.value:.0f}): data parallel over {ranks} does not suit it; a batch of {most:,} or less leaves "
            f"{FEW_STEPS.value:.0f} steps, which at most {most:,} data ranks can share"
        )
        yield AdviceWarning(kind=AdviceWarningKind.FEW_STEPS_PER_EPOCH, text=text)
    if epochs > MOST_EPOCHS.value:
        worth = effective_samples(size, point.num_samples) / size
        text = (
            f"the run passes over the data {epochs:,.1f} times (more than {MOST_EPOCHS.value:.0f}); by arXiv 2305.16264 that is "
            f"worth {worth:,.1f} passes over fresh data"
        )
        yield AdviceWarning(kind=AdviceWarningKind.REPEATED_DATA, text=text)
    lost = (size % batch) / size if epochs > 1.0 else 0.0
    if lost > MOST_DROPPED_FRAC.value:
        text = (
            f"the last batch of each epoch is incomplete: where it is dropped, {lost:.0%} of the data is not seen in that epoch"
        )
        yield AdviceWarning(kind=AdviceWarningKind.DROPPED_LAST_BATCH, text=text)


def _devices(point: TradePoint, asked_batch: int) -> Iterator[AdviceWarning]:
    for name, batch in (("the job's global batch", asked_batch), ("the advised global batch", point.global_batch)):
        if point.num_devices > batch:
            text = (
                f"{name} has {batch:,} samples for {point.num_devices:,} devices: data parallel can use {batch:,} at most, "
                f"the others must split the model"
            )
            yield AdviceWarning(kind=AdviceWarningKind.MORE_DEVICES_THAN_SAMPLES, text=text)
            return


def _small(site: Site, point: TradePoint) -> Iterator[AdviceWarning]:
    """The same step with larger micro-batches, whether they fit or not: what it would gain is time that kernels wait."""
    base = bare(point.strategy)
    sized = [s for s in sized_strategies(site, base) if s.micro_batch > point.strategy.micro_batch]
    own_strategy = replace(base, micro_batch=point.strategy.micro_batch, num_micro_batches=point.strategy.num_micro_batches)
    own = site.costs.steps(site.shape, [own_strategy])[0].value
    if not sized:
        return
    steps = [step.value for step in site.costs.steps(site.shape, sized)]
    least = min(steps)
    gain = 1.0 - least / own
    if gain > MOST_WAITING_FRAC.value:
        better = sized[steps.index(least)].micro_batch
        text = (
            f"micro-batches of {point.strategy.micro_batch} are small for this device: kernels wait for the host or run half "
            f"empty; with {better} per micro-batch a step would take {gain:.0%} less, where memory allows"
        )
        yield AdviceWarning(kind=AdviceWarningKind.SMALL_MICRO_BATCH, text=text)
