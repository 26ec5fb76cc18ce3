"""All candidates of one unit: every legal strategy on every usable shape of every offer, with time, memory, cost and limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from planner.candidates.calibrate import calibrated, key_of, plan_calibrations
from planner.candidates.limits import Violation, violations
from planner.candidates.predict import (
    MAX_PREDICTED,
    MIN_PREDICTED_PER_SHAPE,
    Dropped,
    Judged,
    ShapeResult,
    Surveyed,
    judge_shape,
    shares,
    survey_shape,
)
from planner.candidates.searched import search_shape
from planner.candidates.shapes import Site, sites
from planner.costs import DeviceContext
from planner.placement.occupancy import PoolSlots
from planner.strategies import TRIMTAB, framework
from planner.strategies.question import Question
from planner.training.calibration import Calibration
from trimtab.estimate import Constant, Estimate, Origin
from trimtab.ids import DeviceTypeName, PoolId
from trimtab.inventory import Inventory, Offer, Pool, ProbeReport, Shape
from trimtab.jobspec import CheckpointPolicy, JobKind, JobSpec, Trainer
from trimtab.measurement import StepMeasurement
from trimtab.plan import Candidate, FitVerdict, PlanRequest, Rejection, RejectionReason, TimePart
from trimtab.strategy import Strategy

SECONDS_PER_HOUR = 3600.0
DURATION_UNKNOWN = "duration unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A candidate with what the choice needs beside it. ``violations`` are the limits that it breaks (none: it is feasible)."""

    candidate: Candidate
    headroom_frac: float
    overflow_frac: float
    constants: tuple[Constant, ...]
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSet:
    """What there is for one unit. ``over_limit`` ones fit but break a limit; ``dropped`` did not get that far."""

    request: PlanRequest
    feasible: tuple[Scored, ...]
    over_limit: tuple[Scored, ...]
    dropped: tuple[Dropped, ...]
    rejections: tuple[Rejection, ...]
    num_considered: int


class Generator:
    """Makes candidates for the units of one problem. Predictions are shared by units that ask for the same work.

    ``measurements`` are measured steps of earlier runs; how old they are is judged by ``now``, else by the inventory's time.
    """

    def __init__(
        self,
        inventory: Inventory,
        probes: Sequence[ProbeReport],
        slots: Mapping[PoolId, PoolSlots],
        *,
        measurements: Sequence[StepMeasurement] = (),
        now: datetime | None = None,
    ) -> None:
        self._inventory = inventory
        self._slots = slots
        self._probes = newest_probes(probes)
        self._calibrations = plan_calibrations(
            measurements, inventory.device_types, probes=self._probes, now=now or inventory.observed_at
        )
        self._known: dict[object, Mapping[tuple[PoolId, Shape], ShapeResult]] = {}

    def candidates(self, request: PlanRequest) -> CandidateSet:
        """Every candidate of a unit; those that break a limit apart from those that do not."""
        found, refused = sites(self._inventory, self._slots, request)
        if request.spec.kind is JobKind.COMMAND:
            scored = [_command_candidate(request, site.offer, shape) for site in found for shape in site.shapes]
            dropped: tuple[Dropped, ...] = ()
            considered = len(scored)
        else:
            scored, dropped, considered = self._train(request, found)
        return CandidateSet(
            request=request,
            feasible=tuple(s for s in scored if not s.violations),
            over_limit=tuple(s for s in scored if s.violations),
            dropped=dropped,
            rejections=refused + _as_rejections(request, dropped),
            num_considered=considered,
        )

    def context(self, pool: Pool, shape: Shape) -> DeviceContext:
        """Where a shape of the pool runs, with the newest probe of its device type."""
        device_type = self._inventory.device_type(pool.device_type)
        return DeviceContext(
            device_type=device_type, pool=pool, shape=shape, probe=self._probes.get(device_type.name), framework=TRIMTAB.name
        )

    def calibration(self, pool: Pool, trainer: Trainer) -> Calibration | None:
        """What corrects predictions of a trainer on the devices of the pool, if any run of it was measured there."""
        return self._calibrations.get(key_of(pool.device_type, trainer, self._probes.get(pool.device_type)))

    def _train(self, request: PlanRequest, found: Sequence[Site]) -> tuple[list[Scored], tuple[Dropped, ...], int]:
        results = self._results(request.spec, found)
        scored = [
            train_candidate(request, site.offer, shape=shape, judged=judged)
            for site in found
            for shape in site.shapes
            for judged in results[site.slots.pool.id, shape].judged
        ]
        dropped = merge_dropped(entry for result in results.values() for entry in result.dropped)
        return scored, dropped, sum(result.num_considered for result in results.values())

    def _results(self, spec: JobSpec, found: Sequence[Site]) -> Mapping[tuple[PoolId, Shape], ShapeResult]:
        """What each shape of each pool offers for a training job; remembered by all that the predictions depend on."""
        places = tuple(dict.fromkeys((site.slots.pool.id, shape) for site in found for shape in site.shapes))
        key = (spec.model, spec.train, spec.framework, spec.strategy, places)
        if key not in self._known and spec.framework is not Trainer.TRIMTAB:
            self._known[key] = {place: self._search(spec, *place) for place in places}
        if key not in self._known:
            surveyed = [self._survey(spec, *place) for place in places]
            most = shares([len(entry.fitting) for entry in surveyed], MAX_PREDICTED, MIN_PREDICTED_PER_SHAPE)
            self._known[key] = {
                place: judge_shape(entry, limit) for place, entry, limit in zip(places, surveyed, most, strict=True)
            }
        return self._known[key]

    def _survey(self, spec: JobSpec, pool_id: PoolId, shape: Shape) -> Surveyed:
        question, context = self._asked(spec, pool_id, shape)
        return survey_shape(question, context, self.calibration(context.pool, spec.framework))

    def _search(self, spec: JobSpec, pool_id: PoolId, shape: Shape) -> ShapeResult:
        question, context = self._asked(spec, pool_id, shape)
        found, calibration = search_shape(question, context), self.calibration(context.pool, spec.framework)
        judged = (replace(entry, prediction=calibrated(entry.prediction, calibration)) for entry in found.judged)
        return replace(found, judged=tuple(judged))

    def _asked(self, spec: JobSpec, pool_id: PoolId, shape: Shape) -> tuple[Question, DeviceContext]:
        assert spec.model is not None
        assert spec.train is not None
        context = self.context(self._inventory.pool(pool_id), shape)
        question = Question(
            model=spec.model,
            train=spec.train,
            device_type=context.device_type,
            shape=shape,
            request=spec.strategy,
            framework=framework(str(spec.framework)),
        )
        return question, context


def train_candidate(request: PlanRequest, offer: Offer, *, shape: Shape, judged: Judged) -> Scored:
    """The candidate of a training unit: time of all steps and what a run costs beside them, at the offer's price."""
    assert request.spec.train is not None
    prediction = judged.prediction
    startup_s = offer.startup_s if shape.num_nodes > offer.nodes_now else 0.0
    num_steps = request.spec.train.num_steps
    saving_s = num_checkpoints(request.spec.checkpoint, num_steps, prediction.step_s.value) * prediction.checkpoint_s
    fixed = more_fixed(prediction.fixed_s, saving_s)
    total = run_time(prediction.step_s, num_steps, fixed=fixed, startup_s=startup_s)
    run_parts = (
        *prediction.fixed_parts,
        TimePart(name="checkpoints on the way", seconds=saving_s),
        TimePart(name="start of the nodes", seconds=startup_s),
    )
    price = offer.price_usd_per_device_hour * shape.num_devices
    candidate = Candidate(
        unit_id=request.unit_id,
        offer_id=offer.id,
        pool_id=offer.pool_id,
        shape=shape,
        strategy=judged.strategy,
        step_s=prediction.step_s,
        total_s=total,
        cost_usd=total.scaled(price / SECONDS_PER_HOUR),
        price_usd_per_hour=price,
        memory=prediction.memory,
        fit=judged.fit,
        time_parts=prediction.parts,
        run_parts=tuple(part for part in run_parts if part.seconds > 0.0),
        input_s=prediction.input_s,
        restart_read_s=prediction.restart_read_s,
        raw_step_s=prediction.raw_step_s,
    )
    return Scored(
        candidate=candidate,
        headroom_frac=judged.headroom_frac,
        overflow_frac=judged.overflow_frac,
        constants=prediction.constants,
        violations=violations(request, candidate),
    )


def num_checkpoints(policy: CheckpointPolicy, num_steps: int, step_s: float) -> int:
    """Checkpoints that fall due during a run, beside the one at its end: by steps or by time, whichever is more often."""
    by_steps = (num_steps - 1) // policy.every_steps if policy.every_steps > 0 else 0
    by_time = int(num_steps * step_s / policy.every_s) if policy.every_s > 0.0 else 0
    return min(max(by_steps, by_time), max(0, num_steps - 1))


def more_fixed(fixed: Estimate, seconds: float) -> Estimate:
    """The fixed part with the time of checkpoints on the way, known as well as the rest of it."""
    return fixed.scaled((fixed.value + seconds) / fixed.value) if fixed.value > 0.0 else fixed


def run_time(step: Estimate, num_steps: int, *, fixed: Estimate, startup_s: float) -> Estimate:
    """Time of a whole run: steps, fixed part and start of the nodes. Steps and fixed part err together, so their ends add."""
    steps = step.scaled(num_steps)
    return Estimate(
        value=steps.value + fixed.value + startup_s,
        low=steps.low + fixed.low + startup_s,
        high=steps.high + fixed.high + startup_s,
        origin=least_trusted(step.origin, fixed.origin if fixed.value > steps.value else step.origin),
        source=f"{num_steps} steps by {step.source}" + (f", {fixed.source}" if fixed.source else ""),
    )


def least_trusted(*origins: Origin) -> Origin:
    """The origin that comes last in the order of trust."""
    order = list(Origin)
    return max(origins, key=order.index)


def newest_probes(probes: Sequence[ProbeReport]) -> Mapping[DeviceTypeName, ProbeReport]:
    """The newest probe of each device type; of equally new ones the last by fingerprint."""
    newest: dict[DeviceTypeName, ProbeReport] = {}
    for probe in sorted(probes, key=lambda p: (p.measured_at, p.fingerprint)):
        newest[probe.device_type.name] = probe
    return newest


def merge_dropped(entries: Iterable[Dropped]) -> tuple[Dropped, ...]:
    """One entry per reason and rule, counts added; a does-not-fit entry keeps the example that lacks least."""
    merged: dict[tuple[RejectionReason, str], Dropped] = {}
    for entry in entries:
        key = (entry.reason, entry.rule)
        known = merged.get(key)
        if known is None:
            merged[key] = entry
            continue
        example = entry if entry.shortfall_bytes < known.shortfall_bytes else known
        merged[key] = replace(example, count=known.count + entry.count)
    return tuple(merged.values())


def command_strategy_time() -> Estimate:
    """A user's own program: nothing is known of how long it takes."""
    return Estimate(value=0.0, low=0.0, high=0.0, origin=Origin.ASSUMED, source=DURATION_UNKNOWN)


def _command_candidate(request: PlanRequest, offer: Offer, shape: Shape) -> Scored:
    unknown = command_strategy_time()
    candidate = Candidate(
        unit_id=request.unit_id,
        offer_id=offer.id,
        pool_id=offer.pool_id,
        shape=shape,
        strategy=None,
        step_s=unknown,
        total_s=unknown,
        cost_usd=unknown,
        price_usd_per_hour=offer.price_usd_per_device_hour * shape.num_devices,
        fit=FitVerdict.FITS,
    )
    return Scored(
        candidate=candidate, headroom_frac=1.0, overflow_frac=0.0, constants=(), violations=violations(request, candidate)
    )


def _as_rejections(request: PlanRequest, dropped: Sequence[Dropped]) -> tuple[Rejection, ...]:
    return tuple(
        Rejection(
            unit_id=request.unit_id,
            reason=entry.reason,
            rule=entry.rule,
            detail=entry.detail,
            strategy=entry.strategy,
            count=entry.count,
        )
        for entry in dropped
    )


def same_strategy(left: Strategy | None, right: Strategy | None) -> bool:
    """Whether two strategies split the work alike; a missing stage split counts as any."""
    if left is None or right is None or not (left.stage_layers and right.stage_layers):
        return (left is None) == (right is None) and (
            left is None or right is None or replace(left, stage_layers=()) == replace(right, stage_layers=())
        )
    return left == right
