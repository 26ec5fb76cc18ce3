"""Time and memory of strategies for the advice: the fitted cost model, or that of the built-in trainer where it runs on CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from planner.advice.types import AdviceQuestion
from planner.candidates.memory import predict_memory
from planner.candidates.predict import judge_shape, needed_bytes, survey_shape, verdict
from planner.candidates.search import Place, job_of, search_grid
from planner.candidates.searched import place_of, profile_for
from planner.costs import DeviceContext, predict
from planner.strategies import Question, StrategyTable, framework
from planner.strategies.rules import legal
from planner.training.evaluate import memory_bytes
from planner.training.profiles import Profile, profile_of
from planner.training.spread import Doubt, interval, log_spread
from planner.training.verdict import judge
from trimtab.estimate import Constant, Estimate, Origin
from trimtab.inventory import DeviceKind, Shape
from trimtab.jobspec import Trainer
from trimtab.model import ModelSpec
from trimtab.plan import FitVerdict
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload

NUM_FOUND = 12
"""Strategies that are kept of one shape and batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Peak bytes of the fullest rank, with the verdict."""

    total_bytes: Estimate
    fit: FitVerdict


class Costs(Protocol):
    """What strategies cost on shapes of one pool. ``constants`` are those that the figures rest on."""

    @property
    def constants(self) -> tuple[Constant, ...]:
        """What the figures rest on."""
        ...

    def found(self, shape: Shape, global_batch: int) -> tuple[Strategy, ...]:
        """Strategies that fit (or nearly), those that surely fit first, then by time; none where nothing fits."""
        ...

    def steps(self, shape: Shape, strategies: Sequence[Strategy]) -> tuple[Estimate, ...]:
        """Seconds of a step of each strategy."""
        ...

    def peaks(self, shape: Shape, strategies: Sequence[Strategy]) -> tuple[Peak, ...]:
        """Memory of each strategy."""
        ...


def costs_of(question: AdviceQuestion) -> Costs:
    """The cost model for a job on a kind of device."""
    if question.spec.framework is Trainer.TRIMTAB and question.device_type.kind is DeviceKind.CPU:
        return BuiltInCosts(question)
    return FittedCosts(question)


def batch_question(question: AdviceQuestion, shape: Shape, global_batch: int) -> Question:
    """The strategies of the job on a shape with another global batch."""
    return Question(
        model=_model(question),
        train=replace(workload(question), global_batch=global_batch),
        device_type=question.device_type,
        shape=shape,
        request=question.spec.strategy,
        framework=framework(str(question.spec.framework)),
    )


def workload(question: AdviceQuestion) -> TrainWorkload:
    """The training run that is asked about."""
    assert question.spec.train is not None, "advise() refuses jobs without a training run"
    return question.spec.train


def lawful(asked: Question, strategies: Sequence[Strategy]) -> tuple[Strategy, ...]:
    """Those that break no rule."""
    if not strategies:
        return ()
    setting = replace(asked.setting, stage_layers=tuple(strategy.stage_layers for strategy in strategies))
    kept = legal(setting, StrategyTable.of(strategies))
    return tuple(strategy for strategy, is_legal in zip(strategies, kept, strict=True) if is_legal)


class FittedCosts:
    """The cost model of ``planner.training``, with the profile of the job's trainer."""

    def __init__(self, question: AdviceQuestion) -> None:
        self._question = question
        self._profile = profile_in(question)

    @property
    def constants(self) -> tuple[Constant, ...]:
        """The fitted constants of this trainer on this device type."""
        place = self._place(Shape(num_nodes=1, devices_per_node=1))
        precision = str(workload(self._question).precision)
        return place.constants.listed(self._profile.name, place.device_type, precision)

    def found(self, shape: Shape, global_batch: int) -> tuple[Strategy, ...]:
        """The fastest of those that surely fit; where there are none, of those that may."""
        asked = batch_question(self._question, shape, global_batch)
        place = self._place(shape)
        error = self._profile.memory_error_frac
        narrow = replace(place.arrays, memory_bytes=place.arrays.memory_bytes * (1.0 - error) / (1.0 + error))
        search = search_grid(asked, replace(place, arrays=narrow), num_kept=NUM_FOUND) or search_grid(
            asked, place, num_kept=NUM_FOUND
        )
        return () if search is None else tuple(search.best.strategy(i) for i in range(len(search.best)))

    def steps(self, shape: Shape, strategies: Sequence[Strategy]) -> tuple[Estimate, ...]:
        """Step times, each with the interval that the cost model has for it."""
        if not strategies:
            return ()
        place, train = self._place(shape), workload(self._question)
        time = place.evaluated(job_of(batch_question(self._question, shape, 1)), StrategyTable.of(strategies)).time
        has_experts = any(stack.feed_forward.experts is not None for stack in _model(self._question).stacks)
        fitted = place.constants.device(place.device_type, str(train.precision))[1]
        origin = Origin.PUBLISHED if fitted else Origin.ASSUMED
        made = []
        for step_s, compute_s in zip(time.step_s, time.compute_s, strict=True):
            waiting = max(0.0, 1.0 - float(compute_s) / float(step_s))
            doubt = Doubt(has_experts=has_experts, is_guessed=False, waiting_frac=waiting)
            low, high = interval(float(step_s), log_spread(doubt, place.constants.shared, num_measured=0))
            made.append(Estimate(value=float(step_s), low=low, high=high, origin=origin, source="training cost model"))
        return tuple(made)

    def peaks(self, shape: Shape, strategies: Sequence[Strategy]) -> tuple[Peak, ...]:
        """Memory of the fullest rank with its verdict."""
        if not strategies:
            return ()
        place = self._place(shape)
        totals = memory_bytes(
            job_of(batch_question(self._question, shape, 1)),
            StrategyTable.of(strategies),
            place.arrays,
            device_type=place.device_type,
            profile=self._profile,
            constants=place.constants,
        )
        return tuple(self._judged(float(total)) for total in totals)

    def _judged(self, total: float) -> Peak:
        found = judge(total, float(self._question.device_type.memory_bytes), profile=self._profile)
        size = Estimate(
            value=total, low=found.low_bytes, high=found.high_bytes, origin=Origin.PUBLISHED, source="training memory model"
        )
        return Peak(total_bytes=size, fit=found.fit or FitVerdict.DOES_NOT_FIT)

    def _place(self, shape: Shape) -> Place:
        device = self._question.device_type
        context = DeviceContext(device_type=device, pool=self._question.pool, shape=shape)
        return Place(arrays=place_of(context), device_type=str(device.name), profile=self._profile)


class BuiltInCosts:
    """The cost model of the built-in trainer, which knows what a probe measured: the figures of ``trimtab plan``."""

    def __init__(self, question: AdviceQuestion) -> None:
        self._question = question
        self._contexts: dict[Shape, DeviceContext] = {}
        self._constants: dict[str, Constant] = {}

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Those of the step times that were computed so far."""
        return tuple(self._constants.values())

    def found(self, shape: Shape, global_batch: int) -> tuple[Strategy, ...]:
        """The fastest by the built-in trainer's own costs."""
        asked = batch_question(self._question, shape, global_batch)
        judged = judge_shape(survey_shape(asked, self._context(shape)), NUM_FOUND).judged
        ordered = sorted(judged, key=lambda j: (j.fit is not FitVerdict.FITS, j.prediction.step_s.value))
        return tuple(entry.strategy for entry in ordered)

    def steps(self, shape: Shape, strategies: Sequence[Strategy]) -> tuple[Estimate, ...]:
        """Step times with their intervals."""
        made = []
        for strategy in strategies:
            train = replace(workload(self._question), global_batch=strategy.global_batch)
            found = predict(model=_model(self._question), train=train, strategy=strategy, context=self._context(shape))
            self._constants.update((constant.name, constant) for constant in found.constants)
            made.append(found.step_s)
        return tuple(made)

    def peaks(self, shape: Shape, strategies: Sequence[Strategy]) -> tuple[Peak, ...]:
        """Memory of the fullest stage, with what its process holds."""
        return tuple(self._peak(shape, strategy) for strategy in strategies)

    def _peak(self, shape: Shape, strategy: Strategy) -> Peak:
        train = replace(workload(self._question), global_batch=strategy.global_batch)
        ranks = predict_memory(model=_model(self._question), train=train, strategy=strategy, context=self._context(shape))
        worst, capacity = max(ranks, key=needed_bytes), float(self._question.device_type.memory_bytes)
        held = worst.total_bytes
        moved = replace(
            held,
            value=held.value + worst.resident_bytes,
            low=held.low + worst.resident_bytes,
            high=held.high + worst.resident_bytes,
        )
        return Peak(total_bytes=moved, fit=verdict(ranks, capacity))

    def _context(self, shape: Shape) -> DeviceContext:
        if shape not in self._contexts:
            asked = self._question
            self._contexts[shape] = DeviceContext(
                device_type=asked.device_type, pool=asked.pool, shape=shape, probe=asked.probe, framework=str(Trainer.TRIMTAB)
            )
        return self._contexts[shape]


def profile_in(question: AdviceQuestion) -> Profile:
    """The cost profile of the job's trainer on its kind of device."""
    trainer = question.spec.framework
    return profile_of("trimtab") if trainer is Trainer.TRIMTAB else profile_for(trainer, question.device_type.kind)


def _model(question: AdviceQuestion) -> ModelSpec:
    assert question.spec.model is not None, "advise() refuses jobs without a model"
    return question.spec.model
