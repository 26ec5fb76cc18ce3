"""Two plans side by side as data: what was chosen, what is predicted, and what differs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, replace
from enum import StrEnum

from scheduler.service.figures import MEMORY_PARTS, Span
from trimtab.inventory import Inventory
from trimtab.jobspec import JobSpec
from trimtab.plan import Candidate
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload

_TOLD_BY_NAME_ALONE = ("data", "optimizer")


class FigureUnit(StrEnum):
    """What the numbers of a figure are."""

    SECONDS = "seconds"
    BYTES = "bytes"
    USD = "usd"
    USD_PER_HOUR = "usd-per-hour"
    PER_SECOND = "per-second"
    FRACTION = "fraction"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSide:
    """One of two plans: the chosen candidate, and the job and inventory that it was made for (None: not known)."""

    name: str
    candidate: Candidate
    spec: JobSpec | None
    inventory: Inventory | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedChoice:
    """One thing that was chosen, in words; empty where a side has none."""

    name: str
    a: str
    b: str

    @property
    def differs(self) -> bool:
        """Whether the sides chose differently."""
        return self.a != self.b


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFigure:
    """One predicted figure; None where a side has none. ``section`` groups figures, ``is_part`` marks a part of the one above.

    ``difference`` is b - a in the figure's unit, ``ratio`` b / a; ``overlap`` says whether the 80 % intervals share a point (None
    without intervals).
    """

    section: str
    name: str
    unit: FigureUnit
    a: Span | None
    b: Span | None
    is_part: bool = False
    difference: float | None = None
    ratio: float | None = None
    overlap: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The whole comparison. ``warnings`` say that the sides do not answer the same question, and how."""

    name_a: str
    name_b: str
    warnings: tuple[str, ...]
    choices: tuple[ComparedChoice, ...]
    strategy: tuple[ComparedChoice, ...]
    figures: tuple[ComparedFigure, ...]

    def figure(self, name: str) -> ComparedFigure | None:
        """The figure of that name that is no part of another one."""
        return next((figure for figure in self.figures if figure.name == name and not figure.is_part), None)


def compare(a: PlanSide, b: PlanSide) -> Comparison:
    """Everything about two plans that can be held against each other."""
    return Comparison(
        name_a=a.name,
        name_b=b.name,
        warnings=tuple(_warnings(a, b)),
        choices=tuple(_choices(a, b)),
        strategy=tuple(_dimensions(a.candidate.strategy, b.candidate.strategy)),
        figures=(*_step(a, b), *_memory(a.candidate, b.candidate, _capacities(a, b)), *_run(a, b)),
    )


# ---------------------------------------------------------------------------------------------------- what was asked and chosen


def _warnings(a: PlanSide, b: PlanSide) -> Iterator[str]:
    for side in (a, b):
        if side.spec is None:
            yield f"{side.name} does not hold its job: whether model and workload are the same is not known"
    if a.spec is None or b.spec is None:
        return
    if a.spec.kind is not b.spec.kind:
        yield f"different kinds of jobs: {a.spec.kind} and {b.spec.kind}"
    one, other = a.spec.model, b.spec.model
    if one is not None and other is not None and one != other:
        same_name = f"{one.name}, with different fields: {', '.join(_differing(one, other))}"
        yield f"different models: {same_name if one.name == other.name else f'{one.name} and {other.name}'}"
    if a.spec.train is not None and b.spec.train is not None and a.spec.train != b.spec.train:
        yield f"different workloads: {', '.join(_workload_words(a.spec.train, b.spec.train))}"
    if a.spec.command != b.spec.command:
        yield "different programs"


def _differing(one: object, other: object) -> list[str]:
    return [f.name for f in fields(one) if getattr(one, f.name) != getattr(other, f.name)]  # type: ignore[arg-type]


def _workload_words(one: TrainWorkload, other: TrainWorkload) -> Iterator[str]:
    for name in _differing(one, other):
        if name in _TOLD_BY_NAME_ALONE:
            yield name
        else:
            yield f"{name} {_number(getattr(one, name))} and {_number(getattr(other, name))}"


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _choices(a: PlanSide, b: PlanSide) -> Iterator[ComparedChoice]:
    def row(name: str, words: Callable[[PlanSide], str]) -> ComparedChoice:
        return ComparedChoice(name=name, a=words(a), b=words(b))

    yield row("optimize", lambda side: str(side.spec.optimize) if side.spec else "")
    yield row("device type", _device_type)
    yield row("offer", lambda side: str(side.candidate.offer_id))
    yield row("devices", lambda side: str(side.candidate.shape.num_devices))
    yield row("shape", lambda side: f"{side.candidate.shape.num_nodes} × {side.candidate.shape.devices_per_node}")
    yield row("fit", lambda side: str(side.candidate.fit))
    yield row("rests on", lambda side: str(side.candidate.step_s.origin))


def _device_type(side: PlanSide) -> str:
    return str(side.inventory.pool(side.candidate.pool_id).device_type) if side.inventory else ""


def _dimensions(one: Strategy | None, other: Strategy | None) -> Iterator[ComparedChoice]:
    """The dimensions of a strategy that are not at their default on both sides."""
    for field in fields(Strategy):
        default = field.default if field.default is not MISSING else None
        values = [getattr(side, field.name) if side is not None else None for side in (one, other)]
        if any(value not in (None, default) for value in values) or values[0] != values[1]:
            yield ComparedChoice(name=field.name, a=_dimension(values[0]), b=_dimension(values[1]))
    if one is not None and other is not None:
        yield ComparedChoice(name="global_batch", a=f"{one.global_batch:,}", b=f"{other.global_batch:,}")


def _dimension(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ("+".join(map(str, value)) or "even") if isinstance(value, tuple) else str(value)


# ------------------------------------------------------------------------------------------------------------- what is predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """Makes the figures of one section in one unit."""

    name: str
    unit: FigureUnit

    def figure(self, name: str, a: Span | None, b: Span | None, *, is_part: bool = False) -> ComparedFigure:
        """One figure with what follows from its two spans."""
        made = ComparedFigure(section=self.name, name=name, unit=self.unit, a=a, b=b, is_part=is_part)
        if a is None or b is None:
            return made
        return replace(
            made,
            difference=b.value - a.value,
            ratio=b.value / a.value if a.value > 0 else None,
            overlap=None if a.is_exact and b.is_exact else a.overlaps(b),
        )


def _step(a: PlanSide, b: PlanSide) -> Iterator[ComparedFigure]:
    one, other = a.candidate, b.candidate
    section = _Section(name="step", unit=FigureUnit.SECONDS)
    yield section.figure("step time", _known(Span.of(one.step_s)), _known(Span.of(other.step_s)))
    parts = [{part.name: part.seconds for part in candidate.time_parts} for candidate in (one, other)]
    for name in dict.fromkeys([*parts[0], *parts[1]]):
        seconds = [part.get(name, 0.0) for part in parts]
        if any(seconds):
            yield section.figure(name, Span.exactly(seconds[0]), Span.exactly(seconds[1]), is_part=True)
    yield _Section(name="step", unit=FigureUnit.PER_SECOND).figure("tokens/s", _tokens_per_s(a), _tokens_per_s(b))


def _tokens_per_s(side: PlanSide) -> Span | None:
    step = side.candidate.step_s
    if side.spec is None or side.spec.train is None or step.low <= 0.0:
        return None
    tokens = side.spec.train.tokens_per_step
    return Span(value=tokens / step.value, low=tokens / step.high, high=tokens / step.low)


def _known(span: Span) -> Span | None:
    """None for the figure of a job whose time nobody predicts."""
    return span if span.value > 0 else None


def _capacities(a: PlanSide, b: PlanSide) -> tuple[float | None, float | None]:
    first, second = (
        float(side.inventory.device_type(side.inventory.pool(side.candidate.pool_id).device_type).memory_bytes)
        if side.inventory
        else None
        for side in (a, b)
    )
    return first, second


def _memory(a: Candidate, b: Candidate, capacities: tuple[float | None, float | None]) -> Iterator[ComparedFigure]:
    """Each pipeline stage part by part; a side with fewer stages has none of the later ones."""
    num_stages = max(len(a.memory), len(b.memory))
    for stage in range(num_stages):
        name = "memory of a rank" if num_stages == 1 else f"memory of a rank, stage {stage}"
        section = _Section(name=name, unit=FigureUnit.BYTES)
        ranks = [c.memory[stage] if stage < len(c.memory) else None for c in (a, b)]
        totals = [Span.of(rank.total_bytes) if rank else None for rank in ranks]
        yield section.figure(name, totals[0], totals[1])
        for part, field in MEMORY_PARTS:
            values = [float(getattr(rank, field)) if rank else None for rank in ranks]
            if any(values):
                spans = [Span.exactly(value) if value is not None else None for value in values]
                yield section.figure(part, spans[0], spans[1], is_part=True)
        shares = [
            Span.exactly(total.value / capacity) if total is not None and capacity else None
            for total, capacity in zip(totals, capacities, strict=True)
        ]
        if any(shares):
            yield _Section(name=name, unit=FigureUnit.FRACTION).figure("of the device", shares[0], shares[1], is_part=True)


def _run(a: PlanSide, b: PlanSide) -> Iterator[ComparedFigure]:
    one, other = a.candidate, b.candidate
    section = _Section(name="run", unit=FigureUnit.SECONDS)
    yield section.figure("whole run", _known(Span.of(one.total_s)), _known(Span.of(other.total_s)))
    parts = [{part.name: part.seconds for part in candidate.run_parts} for candidate in (one, other)]
    for name in dict.fromkeys([*parts[0], *parts[1]]):
        yield section.figure(name, Span.exactly(parts[0].get(name, 0.0)), Span.exactly(parts[1].get(name, 0.0)), is_part=True)
    money = _Section(name="run", unit=FigureUnit.USD)
    yield money.figure("cost", _known(Span.of(one.cost_usd)), _known(Span.of(other.cost_usd)))
    rate = _Section(name="run", unit=FigureUnit.USD_PER_HOUR)
    yield rate.figure("price", Span.exactly(one.price_usd_per_hour), Span.exactly(other.price_usd_per_hour))
