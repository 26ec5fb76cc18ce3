"""Predicted time and memory of the legal strategies of one model on one shape, cheap checks first.

The order is memory, then time: most strategies do not fit and need no time. Two kinds of strategy are left out because another
one of the same shape is at least as good in every respect: GPipe beside the 1F1B twin (same bubble, never fewer activations in
flight; arXiv 2104.04473), and recompute where the twin without it fits. Beyond the budget of predictions a coarse roofline
chooses which are predicted; what it leaves out is counted under its own rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.candidates.calibrate import calibrated
from planner.candidates.coarse import coarse_step_s
from planner.candidates.memory import predict_memory
from planner.costs import DeviceContext, Prediction, predict
from planner.strategies.question import Question
from planner.strategies.space import strategy_space
from planner.training.calibration import Calibration
from trimtab.inventory import DeviceType
from trimtab.plan import FitVerdict, RankMemory, RejectionReason
from trimtab.strategy import PipelineSchedule, Recompute, Strategy

MAX_PREDICTED = 400
"""Strategies of one job whose time is predicted in full. Shapes with few strategies leave their share to the others."""
MIN_PREDICTED_PER_SHAPE = 16
"""However many shapes there are, this many of each are predicted."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """The strategies of one shape whose memory fits, before any time is predicted; ``calibration`` corrects the times."""

    question: Question
    context: DeviceContext
    calibration: Calibration | None
    fitting: tuple[_Fitting, ...]
    dropped: tuple[Dropped, ...]
    num_considered: int


def survey_shape(question: Question, context: DeviceContext, calibration: Calibration | None = None) -> Surveyed:
    """Enumerate, check the rules, check memory."""
    space = strategy_space(question)
    refused = (
        Dropped(reason=RejectionReason.ILLEGAL, rule=r.rule, detail=r.sentence, strategy=r.strategy, count=r.count)
        for r in space.refusals
    )
    fitting, left = _fitting(question, context, space.legal)
    return Surveyed(
        question=question,
        context=context,
        calibration=calibration,
        fitting=tuple(fitting),
        dropped=(*refused, *left),
        num_considered=len(space.legal) + sum(refusal.count for refusal in space.refusals),
    )


def judge_shape(surveyed: Surveyed, max_predicted: int) -> ShapeResult:
    """Predict the time of what fits, of at most ``max_predicted`` strategies."""
    question, context = surveyed.question, surveyed.context
    fitting, screened = _screened(question, context, surveyed.fitting, max_predicted)
    judged = tuple(_judge(surveyed, item) for item in fitting)
    return ShapeResult(judged=judged, dropped=(*surveyed.dropped, *screened), num_considered=surveyed.num_considered)


def shares(sizes: Sequence[int], total: int, least: int) -> tuple[int, ...]:
    """How many of each shape's strategies are predicted: an even share of ``total``, what small ones leave goes on."""
    given = [0] * len(sizes)
    left, num_open = total, len(sizes)
    for index in sorted(range(len(sizes)), key=lambda i: (sizes[i], i)):
        given[index] = min(sizes[index], max(least, left // num_open))
        left, num_open = max(0, left - given[index]), num_open - 1
    return tuple(given)


def needed_bytes(memory: RankMemory) -> float:
    """What the ranks of a stage need: tensors, holes between them, and what the process holds beside them."""
    return memory.total_bytes.value + memory.allocator_bytes.value + memory.resident_bytes


def lowest_bytes(memory: RankMemory) -> float:
    """The lower end of what the ranks of a stage need."""
    return memory.total_bytes.low + memory.allocator_bytes.low + memory.resident_bytes


def highest_bytes(memory: RankMemory) -> float:
    """The upper end of what the ranks of a stage need."""
    return memory.total_bytes.high + memory.allocator_bytes.high + memory.resident_bytes


def verdict(memory: Sequence[RankMemory], capacity_bytes: float) -> FitVerdict:
    """FITS where the upper end of every rank's interval fits, DOES_NOT_FIT where a lower end does not, TIGHT between."""
    if all(highest_bytes(m) <= capacity_bytes for m in memory):
        return FitVerdict.FITS
    if any(lowest_bytes(m) > capacity_bytes for m in memory):
        return FitVerdict.DOES_NOT_FIT
    return FitVerdict.TIGHT


def _fitting(question: Question, context: DeviceContext, legal: Sequence[Strategy]) -> tuple[list[_Fitting], list[Dropped]]:
    """Those that fit, and what is left out with its reason.

    Memory never falls with the micro-batch while gradients are accumulated, nor while they are not, so after the first one that
    does not fit, larger ones of that split are left. The
    enumeration has 1F1B and no recompute first, so that their twins can be left without computing them.
    """
    capacity = float(context.device_type.memory_bytes)
    fitting: list[_Fitting] = []
    overfull = _Overfull()
    gpipe: list[Strategy] = []
    recomputed: list[Strategy] = []
    fits_plain: set[tuple[object, ...]] = set()
    for strategy in legal:
        split = _split(strategy)
        if strategy.schedule is PipelineSchedule.GPIPE and strategy.num_micro_batches >= strategy.pp:
            gpipe.append(strategy)
        elif strategy.recompute is not Recompute.NONE and (split, strategy.micro_batch) in fits_plain:
            recomputed.append(strategy)
        elif overfull.surely(strategy):
            overfull.count += 1
        else:
            memory = predict_memory(model=question.model, train=question.train, strategy=strategy, context=context)
            fit = verdict(memory, capacity)
            if fit is FitVerdict.DOES_NOT_FIT:
                overfull.add(strategy, memory)
                continue
            fitting.append(_Fitting(strategy=strategy, memory=memory, fit=fit))
            if fit is FitVerdict.FITS and strategy.recompute is Recompute.NONE:
                fits_plain.add((split, strategy.micro_batch))
    left = [
        *overfull.dropped(question.device_type),
        _dominated("same-bubble-more-memory", "GPipe has the bubble of 1f1b and never keeps fewer activations", gpipe),
        _dominated(
            "recompute-not-needed", "recompute computes again what the same strategy can keep: it fits without", recomputed
        ),
    ]
    return fitting, [entry for entry in left if entry.count]


class _Overfull:
    """Counts what does not fit, and keeps the one that lacks least."""

    def __init__(self) -> None:
        self.count = 0
        self._smallest: dict[tuple[object, ...], int] = {}
        self._closest: tuple[float, RankMemory, Strategy] | None = None

    def surely(self, strategy: Strategy) -> bool:
        """Whether a smaller micro-batch of the same split and recompute did not fit, with gradients held in the same way."""
        return strategy.micro_batch > self._smallest.get(_held(strategy), strategy.micro_batch)

    def add(self, strategy: Strategy, memory: tuple[RankMemory, ...]) -> None:
        """One that was computed and does not fit."""
        self.count += 1
        self._smallest.setdefault(_held(strategy), strategy.micro_batch)
        worst = max(memory, key=needed_bytes)
        if self._closest is None or needed_bytes(worst) < self._closest[0]:
            self._closest = (needed_bytes(worst), worst, strategy)

    def dropped(self, device_type: DeviceType) -> tuple[Dropped, ...]:
        """The entry for the report, none where all fit."""
        if self._closest is None:
            return ()
        needed, worst, strategy = self._closest
        return (
            Dropped(
                reason=RejectionReason.DOES_NOT_FIT,
                rule="device-memory",
                detail=_shortage(device_type, worst, strategy),
                strategy=strategy,
                count=self.count,
                shortfall_bytes=needed - device_type.memory_bytes,
            ),
        )


def _split(strategy: Strategy) -> tuple[object, ...]:
    """Everything but the micro-batch, how many there are, and recompute."""
    return (
        strategy.dp,
        strategy.fsdp,
        strategy.zero_stage,
        strategy.tp,
        strategy.sequence_parallel,
        strategy.pp,
        strategy.schedule,
        strategy.stage_layers,
    )


def _held(strategy: Strategy) -> tuple[object, ...]:
    """What memory depends on beside the micro-batch: gradients are whole from the start where more micro-batches follow."""
    return _split(strategy), strategy.recompute, strategy.num_micro_batches > strategy.pp


def _shortage(device_type: DeviceType, worst: RankMemory, strategy: Strategy) -> str:
    parts = (
        ("parameters", worst.parameters_bytes),
        ("gradients", worst.gradients_bytes),
        ("optimizer", worst.optimizer_bytes),
        ("activations", worst.activations_bytes),
        ("logits", worst.logits_bytes),
        ("buffers", worst.communication_bytes + worst.transient_bytes),
        ("allocator", worst.allocator_bytes.value),
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


def _dominated(rule: str, detail: str, strategies: Sequence[Strategy]) -> Dropped:
    first = strategies[0] if strategies else None
    return Dropped(reason=RejectionReason.DOMINATED, rule=rule, detail=detail, strategy=first, count=len(strategies))


def _screened(
    question: Question, context: DeviceContext, fitting: Sequence[_Fitting], most: int
) -> tuple[list[_Fitting], list[Dropped]]:
    """The most promising by the coarse roofline, in the order of the enumeration."""
    if len(fitting) <= most:
        return list(fitting), []
    coarse = [coarse_step_s(question, context, item.strategy) for item in fitting]
    order = sorted(range(len(fitting)), key=lambda index: (coarse[index], index))
    kept = sorted(order[:most])
    last = order[most]
    detail = (
        f"the coarse roofline puts them behind {most} others of {question.shape.num_devices} devices "
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


def _judge(surveyed: Surveyed, item: _Fitting) -> Judged:
    question, context = surveyed.question, surveyed.context
    raw = predict(model=question.model, train=question.train, strategy=item.strategy, context=context)
    prediction = calibrated(raw, surveyed.calibration)
    capacity = float(context.device_type.memory_bytes)
    worst = max(prediction.memory, key=highest_bytes)
    high = highest_bytes(worst)
    width = high - lowest_bytes(worst)
    overflow = min(1.0, max(0.0, high - capacity) / width) if width > 0 else 0.0
    return Judged(
        strategy=item.strategy,
        prediction=prediction,
        fit=item.fit,
        headroom_frac=(capacity - needed_bytes(worst)) / capacity if capacity else 0.0,
        overflow_frac=overflow,
    )
