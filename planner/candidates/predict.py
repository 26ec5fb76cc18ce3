"""Predicted time and memory of the legal strategies of one model on one shape, cheap checks first.

The order is memory, then time: most strategies do not fit and need no time. Two kinds of strategy are left out because
another one of the same shape is at least as good in every respect (4.4 of the planner's formulas): GPipe beside the 1F1B twin
(same bubble, more activations in flight), and full recompute where the twin without it fits (one forward pass more). Beyond
``MAX_PREDICTED_PER_SHAPE`` a coarse roofline chooses which are predicted; what it leaves out is counted under its own rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from planner.candidates.coarse import coarse_step_s
from planner.candidates.memory import predict_memory
from planner.costs import DeviceContext, Prediction, predict
from planner.strategies.space import Question, strategy_space
from trimtab.inventory import DeviceType
from trimtab.plan import FitVerdict, RankMemory, RejectionReason
from trimtab.strategy import PipelineSchedule, Recompute, Strategy

MAX_PREDICTED_PER_SHAPE = 64
"""Strategies of one shape whose time is predicted in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A strategy that fits its devices (or nearly), with its prediction. ``headroom_frac`` of the memory is left on the worst.

    ``overflow_frac`` is how likely the worst rank does not fit after all: the share of its interval that lies above capacity.
    """

    strategy: Strategy
    prediction: Prediction
    fit: FitVerdict
    headroom_frac: float
    overflow_frac: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """``count`` strategies that were not judged further, with a typed reason, the rule and one example.

    ``shortfall_bytes`` is what the closest of them lacks (does-not-fit only).
    """

    reason: RejectionReason
    rule: str
    detail: str
    strategy: Strategy | None
    count: int
    shortfall_bytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeResult:
    """What one shape of one pool offers for one job."""

    judged: tuple[Judged, ...]
    dropped: tuple[Dropped, ...]
    num_considered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitting:
    strategy: Strategy
    memory: tuple[RankMemory, ...]
    fit: FitVerdict


def judge_shape(question: Question, context: DeviceContext) -> ShapeResult:
    """Enumerate, check memory, and predict the time of what fits."""
    space = strategy_space(question)
    dropped = [
        Dropped(reason=RejectionReason.ILLEGAL, rule=r.rule, detail=r.sentence, strategy=r.strategy, count=r.count)
        for r in space.refusals
    ]
    fitting, overfull = _split_by_memory(question, context, space.legal)
    dropped += overfull
    fitting, twins = _without_twins(fitting)
    dropped += twins
    fitting, screened = _screened(question, context, fitting)
    dropped += screened
    judged = tuple(_judge(question, context, item) for item in fitting)
    considered = len(space.legal) + sum(refusal.count for refusal in space.refusals)
    return ShapeResult(judged=judged, dropped=tuple(dropped), num_considered=considered)


def needed_bytes(memory: RankMemory) -> float:
    """What the ranks of a stage need: tensors and what the process holds beside them."""
    return memory.total_bytes.value + memory.resident_bytes


def verdict(memory: Sequence[RankMemory], capacity_bytes: float) -> FitVerdict:
    """FITS where the upper end of every rank's interval fits, DOES_NOT_FIT where a lower end does not, TIGHT between."""
    if all(m.total_bytes.high + m.resident_bytes <= capacity_bytes for m in memory):
        return FitVerdict.FITS
    if any(m.total_bytes.low + m.resident_bytes > capacity_bytes for m in memory):
        return FitVerdict.DOES_NOT_FIT
    return FitVerdict.TIGHT


def _split_by_memory(
    question: Question, context: DeviceContext, legal: Sequence[Strategy]
) -> tuple[list[_Fitting], list[Dropped]]:
    """Those that fit, and what does not.

    Memory never falls with the micro-batch, so after the first one that does not fit, larger ones of the same split are not computed.
    """
    capacity = float(context.device_type.memory_bytes)
    fitting: list[_Fitting] = []
    closest: tuple[float, RankMemory, Strategy] | None = None
    count = 0
    full: dict[tuple[object, ...], int] = {}
    for strategy in legal:
        split = _split(strategy)
        if strategy.micro_batch > full.get(split, strategy.micro_batch):
            count += 1
            continue
        memory = predict_memory(model=question.model, train=question.train, strategy=strategy, context=context)
        fit = verdict(memory, capacity)
        if fit is not FitVerdict.DOES_NOT_FIT:
            fitting.append(_Fitting(strategy=strategy, memory=memory, fit=fit))
            continue
        count += 1
        full[split] = strategy.micro_batch
        worst = max(memory, key=needed_bytes)
        if closest is None or needed_bytes(worst) < closest[0]:
            closest = (needed_bytes(worst), worst, strategy)
    if closest is None:
        return fitting, []
    needed, worst, strategy = closest
    return fitting, [
        Dropped(
            reason=RejectionReason.DOES_NOT_FIT,
            rule="device-memory",
            detail=_shortage(question.device_type, worst, strategy),
            strategy=strategy,
            count=count,
            shortfall_bytes=needed - capacity,
        )
    ]


def _split(strategy: Strategy) -> tuple[object, ...]:
    """Everything but the micro-batch and how many there are."""
    return (
        strategy.dp,
        strategy.fsdp,
        strategy.zero_stage,
        strategy.tp,
        strategy.sequence_parallel,
        strategy.pp,
        strategy.schedule,
        strategy.stage_layers,
        strategy.recompute,
    )


def _shortage(device_type: DeviceType, worst: RankMemory, strategy: Strategy) -> str:
    parts = (
        ("parameters", worst.parameters_bytes),
        ("gradients", worst.gradients_bytes),
        ("optimizer", worst.optimizer_bytes),
        ("activations", worst.activations_bytes),
        ("logits", worst.logits_bytes),
        ("buffers", worst.communication_bytes + worst.transient_bytes),
        ("process", worst.resident_bytes),
    )
    largest = sorted(parts, key=lambda part: -part[1])[:3]
    listed = ", ".join(f"{name} {_gib(amount)}" for name, amount in largest)
    return (
        f"the closest, {strategy.label()}, needs {_gib(needed_bytes(worst))} of {_gib(device_type.memory_bytes)} "
        f"on a {device_type.name} ({listed} GiB)"
    )


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 1024**3:.2f}"


def _without_twins(fitting: Sequence[_Fitting]) -> tuple[list[_Fitting], list[Dropped]]:
    """Leave out what a twin of the same shape is at least as good as, in time and in memory."""
    verdicts = {item.strategy: item.fit for item in fitting}
    kept: list[_Fitting] = []
    gpipe: list[Strategy] = []
    recomputed: list[Strategy] = []
    for item in fitting:
        strategy = item.strategy
        if strategy.schedule is PipelineSchedule.GPIPE:
            twin = replace(strategy, schedule=PipelineSchedule.ONE_F_ONE_B)
            if verdicts.get(twin, FitVerdict.DOES_NOT_FIT) is FitVerdict.FITS or verdicts.get(twin) is item.fit:
                gpipe.append(strategy)
                continue
        if strategy.recompute is not Recompute.NONE:
            twin = replace(strategy, recompute=Recompute.NONE)
            if verdicts.get(twin) is FitVerdict.FITS:
                recomputed.append(strategy)
                continue
        kept.append(item)
    dropped = [
        _dominated("same-bubble-more-memory", "GPipe keeps more activations than 1f1b at the same bubble", gpipe),
        _dominated("recompute-not-needed", "recompute costs a forward pass, and the same strategy fits without it", recomputed),
    ]
    return kept, [entry for entry in dropped if entry.count]


def _dominated(rule: str, detail: str, strategies: Sequence[Strategy]) -> Dropped:
    first = strategies[0] if strategies else None
    return Dropped(reason=RejectionReason.DOMINATED, rule=rule, detail=detail, strategy=first, count=len(strategies))


def _screened(question: Question, context: DeviceContext, fitting: Sequence[_Fitting]) -> tuple[list[_Fitting], list[Dropped]]:
    """The most promising by the coarse roofline, in the order of the enumeration."""
    if len(fitting) <= MAX_PREDICTED_PER_SHAPE:
        return list(fitting), []
    coarse = [coarse_step_s(question, context, item.strategy) for item in fitting]
    order = sorted(range(len(fitting)), key=lambda index: (coarse[index], index))
    kept = sorted(order[:MAX_PREDICTED_PER_SHAPE])
    last = order[MAX_PREDICTED_PER_SHAPE]
    detail = (
        f"the coarse roofline puts them behind {MAX_PREDICTED_PER_SHAPE} others of {question.shape.num_devices} devices "
        f"(the best of them at {coarse[last] / coarse[order[0]]:.2f} times the first)"
    )
    return [fitting[index] for index in kept], [
        Dropped(
            reason=RejectionReason.WORSE,
            rule="coarse-roofline",
            detail=detail,
            strategy=fitting[last].strategy,
            count=len(fitting) - len(kept),
        )
    ]


def _judge(question: Question, context: DeviceContext, item: _Fitting) -> Judged:
    prediction = predict(model=question.model, train=question.train, strategy=item.strategy, context=context)
    capacity = float(context.device_type.memory_bytes)
    worst = max(prediction.memory, key=lambda m: m.total_bytes.high + m.resident_bytes)
    high = worst.total_bytes.high + worst.resident_bytes
    width = worst.total_bytes.high - worst.total_bytes.low
    overflow = min(1.0, max(0.0, high - capacity) / width) if width > 0 else 0.0
    return Judged(
        strategy=item.strategy,
        prediction=prediction,
        fit=item.fit,
        headroom_frac=(capacity - needed_bytes(worst)) / capacity if capacity else 0.0,
        overflow_frac=overflow,
    )
