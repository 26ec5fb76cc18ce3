"""Micro-batches: the largest that fits a split of the model, and what each power of two does to time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from planner.advice.costs import Costs, batch_question, lawful, workload
from planner.advice.types import AdviceQuestion, MicroBatchRow, SplitAdvice
from trimtab.inventory import Shape
from trimtab.plan import FitVerdict
from trimtab.strategy import Offload, PipelineSchedule, Recompute, Strategy

NUM_SPLITS = 2
"""Ways to split the model that are shown, the best first."""
MOST_SAMPLES = 1 << 16
"""Largest micro-batch that is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where and with which global batch micro-batches are compared."""

    question: AdviceQuestion
    shape: Shape
    global_batch: int
    costs: Costs


def split_advice(site: Site, strategies: Sequence[Strategy]) -> tuple[SplitAdvice, ...]:
    """The first distinct splits of ``strategies``, each with every recompute that the trainer and the person leave open."""
    wanted = site.question.spec.strategy.recompute
    asked = batch_question(site.question, site.shape, site.global_batch)
    recomputes = asked.framework.recomputes if wanted is None else (wanted,)
    splits = list(dict.fromkeys(bare(strategy) for strategy in strategies))[:NUM_SPLITS]
    bases = tuple(replace(split, recompute=Recompute(recompute)) for split in splits for recompute in recomputes)
    largest = largest_fitting(site.costs, site.shape, bases)
    made = (_advice(site, base, most) for base, most in zip(bases, largest, strict=True))
    return tuple(entry for entry in made if entry.rows)


def bare(strategy: Strategy) -> Strategy:
    """The split alone: one sample per micro-batch, nothing recomputed or offloaded."""
    return replace(strategy, micro_batch=1, num_micro_batches=1, recompute=Recompute.NONE, offload=Offload.NONE)


def largest_fitting(costs: Costs, shape: Shape, strategies: Sequence[Strategy]) -> tuple[int, ...]:
    """The largest micro-batch of each strategy that surely fits, by bisection; 0 where not even one sample does.

    Gradients are accumulated over twice as many micro-batches as stages, so memory never falls while the micro-batch grows.
    At most ``MOST_SAMPLES``.
    """
    low, high = [0] * len(strategies), [MOST_SAMPLES + 1] * len(strategies)
    while any(b - a > 1 for a, b in zip(low, high, strict=True)):
        tried = [(a + b) // 2 for a, b in zip(low, high, strict=True)]
        sized = [
            replace(strategy, micro_batch=max(1, size), num_micro_batches=2 * strategy.pp)
            for strategy, size in zip(strategies, tried, strict=True)
        ]
        for index, peak in enumerate(costs.peaks(shape, sized)):
            if high[index] - low[index] > 1:
                fits = peak.fit is FitVerdict.FITS
                low[index], high[index] = (tried[index], high[index]) if fits else (low[index], tried[index])
    return tuple(low)


def sized_strategies(site: Site, base: Strategy) -> tuple[Strategy, ...]:
    """The base with every power of two (and the whole) as micro-batch that divides what a data rank gets of the batch."""
    per_rank, rest = divmod(site.global_batch, base.data_ranks)
    if rest or not per_rank:
        return ()
    sizes = sorted({1 << power for power in range(per_rank.bit_length())} | {per_rank})
    made = [
        replace(base, micro_batch=size, num_micro_batches=per_rank // size)
        for size in sizes
        if per_rank % size == 0 and (base.schedule is not PipelineSchedule.INTERLEAVED or per_rank // size >= base.pp)
    ]
    return lawful(batch_question(site.question, site.shape, site.global_batch), made)


def _advice(site: Site, base: Strategy, largest: int) -> SplitAdvice:
    sized = sized_strategies(site, base)
    peaks = site.costs.peaks(site.shape, sized)
    too_big = next((i for i, peak in enumerate(peaks) if peak.fit is FitVerdict.DOES_NOT_FIT), len(sized))
    shown, peaks = sized[: too_big + 1], peaks[: too_big + 1]
    tokens = workload(site.question).tokens_per_sample * site.global_batch
    rows = tuple(
        MicroBatchRow(
            micro_batch=strategy.micro_batch,
            num_micro_batches=strategy.num_micro_batches,
            step_s=step,
            tokens_per_s=tokens / step.value,
            peak_bytes=peak.total_bytes,
            fit=peak.fit,
        )
        for strategy, step, peak in zip(shown, site.costs.steps(site.shape, shown), peaks, strict=True)
    )
    fitting = [row for row in rows if row.fit is FitVerdict.FITS]
    best = max(fitting, key=lambda row: (row.tokens_per_s, -row.micro_batch)).micro_batch if fitting else 0
    return SplitAdvice(strategy=base, largest_micro_batch=largest, best_micro_batch=best, rows=rows)
