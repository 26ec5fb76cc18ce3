"""Batch advice for a training job on some devices."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.advice.costs import Costs, costs_of, workload
from planner.advice.critical import Critical, critical_batch, measured_batch
from planner.advice.micro import Site, split_advice
from planner.advice.trade import LEVEL, Timed, all_timed, batches_of, best_batch, chosen_for, front, knee, point_of, within
from planner.advice.types import Advice, AdviceQuestion, TradePoint
from planner.advice.warn import WARNING_CONSTANTS, warnings
from trimtab.errors import InfeasibleError, Problem, SpecError
from trimtab.estimate import Estimate
from trimtab.inventory import Shape
from trimtab.plan import FitVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What is computed once: the fastest strategy of every batch on every shape."""

    question: AdviceQuestion
    costs: Costs
    critical: Critical | None
    entries: tuple[Timed, ...]

    @property
    def samples(self) -> Estimate | None:
        """The critical batch in samples."""
        return None if self.critical is None else self.critical.samples

    def points(self, shape: Shape, critical: Estimate | None) -> tuple[TradePoint, ...]:
        """The batches of a shape at a critical batch."""
        return tuple(point_of(self.question, entry, critical) for entry in self.entries if entry.shape == shape)


def advise(question: AdviceQuestion) -> Advice:
    """The advice. Pure: the same question gives the same answer.

    Raises SpecError for a job that trains no model or a figure that is not above 0, InfeasibleError where no strategy fits.
    """
    _check(question)
    work = _work(question)
    shapes = dict.fromkeys(entry.shape for entry in work.entries)
    best = {shape: best_batch(work.points(shape, work.samples), work.samples) for shape in shapes}
    sure = [point for point in best.values() if point.fit is FitVerdict.FITS]
    trade = front(sure or list(best.values()))
    recommended = chosen_for(question.spec.optimize, within(question.spec.limits, trade) or trade)
    if question.exactly:
        recommended = next(point for point in best.values() if point.num_devices == question.num_devices)
    shape = next(shape for shape, point in best.items() if point is recommended)
    site = Site(question=question, shape=shape, global_batch=recommended.global_batch, costs=work.costs)
    splits = split_advice(site, (recommended.strategy, *work.costs.found(shape, recommended.global_batch)))
    batches, own = work.points(shape, work.samples), workload(question).global_batch
    others = {recommended.global_batch, *_at_ends(work, shape)}
    epochs = None if question.data_samples is None else recommended.num_samples / question.data_samples
    found = tuple(warnings(site, recommended, critical=work.samples, asked_batch=own, epochs=epochs))
    return Advice(
        framework=str(question.spec.framework),
        splits=splits,
        critical=work.samples,
        recommended=recommended,
        low_batch=min(others),
        high_batch=max(others),
        asked=next((point for point in batches if point.global_batch == own), None),
        batches=batches,
        trade=trade,
        fastest=trade[-1],
        cheapest=trade[0],
        knee=knee(trade),
        epochs=epochs,
        level_frac=LEVEL.value,
        warnings=found,
        rules=(*(work.critical.constants if work.critical else ()), LEVEL, *WARNING_CONSTANTS),
        constants=work.costs.constants,
    )


def _check(question: AdviceQuestion) -> None:
    if question.spec.train is None or question.spec.model is None:
        raise SpecError([Problem(path="kind", message="only a job that trains a model has batches", allowed="train")])
    given = (("data size", question.data_samples), ("noise scale", question.noise_samples))
    problems = [
        Problem(path=name, message=f"{value} is not above 0", allowed="numbers above 0")
        for name, value in given
        if value is not None and not 0.0 < value < float("inf")
    ]
    if problems:
        raise SpecError(problems)


def _work(question: AdviceQuestion) -> _Work:
    assert question.spec.model is not None
    train, costs = workload(question), costs_of(question)
    if question.noise_samples is not None:
        critical: Critical | None = measured_batch(question.noise_samples)
    else:
        num_tokens = float(train.num_steps) * train.tokens_per_step
        critical = critical_batch(question.spec.model, num_tokens=num_tokens, tokens_per_sample=train.tokens_per_sample)
    batches = batches_of(question, critical.samples.value if critical else None)
    entries = all_timed(question, costs, batches)
    if not any(entry.shape.num_devices == question.num_devices or not question.exactly for entry in entries):
        name, most = question.device_type.name, f"{'' if question.exactly else 'up to '}{question.num_devices}"
        raise InfeasibleError(
            f"no strategy of {question.spec.framework} runs {question.spec.name} on {most} {name}: none fits or is legal",
            reasons=("trimtab estimate lists what is refused and why",),
        )
    return _Work(question=question, costs=costs, critical=critical, entries=entries)


def _at_ends(work: _Work, shape: Shape) -> tuple[int, ...]:
    """What would be advised were the critical batch at either end of its interval."""
    if work.samples is None:
        return ()
    ends = (replace(work.samples, value=end, low=end, high=end) for end in (work.samples.low, work.samples.high))
    return tuple(best_batch(work.points(shape, end), end).global_batch for end in ends)
