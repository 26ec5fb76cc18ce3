"""What a shape offers a job of another trainer: the best strategies of its whole grid, as the planner's candidates want them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.candidates.predict import Dropped, Judged, ShapeResult
from planner.candidates.search import Place, Search, search_grid
from planner.costs import DeviceContext, Prediction
from planner.costs.constants import EVALUATION_BATCHES, ROOFLINE
from planner.costs.storage import storage_times
from planner.costs.types import ConstantLog
from planner.strategies import Question, enumerate_grid
from planner.training.places import PlaceArrays, place_arrays
from planner.training.profiles import Profile, profile_of
from planner.training.spread import Doubt, interval, log_spread
from planner.training.verdict import MemoryVerdict, judge
from trimtab.estimate import Estimate, Origin
from trimtab.inventory import DeviceKind
from trimtab.jobspec import Trainer
from trimtab.plan import FitVerdict, RankMemory, RejectionReason, TimePart
from trimtab.strategy import Strategy

PROFILE_OF = {
    Trainer.MEGATRON: "megatron-bridge",
    Trainer.TORCHTITAN: "torchtitan",
    Trainer.DEEPSPEED: "deepspeed",
    Trainer.COMPOSER_FSDP: "composer-fsdp",
}
"""Profile of the cost model for each trainer; MaxText has one for TPUs and one for GPUs."""
_PARTS = {
    "compute_s": "compute",
    "tensor_s": "tensor communication",
    "context_s": "context communication",
    "expert_s": "expert communication",
    "shard_s": "shard communication",
    "bubble_s": "pipeline bubble",
    "send_s": "pipeline sends",
    "reduce_s": "gradient reduction",
    "update_s": "optimizer",
    "fixed_s": "fixed",
}


def search_shape(question: Question, context: DeviceContext) -> ShapeResult:
    """The best strategies of one shape, with what the rules refused and what does not fit."""
    grid = enumerate_grid(question)
    refused = tuple(
        Dropped(reason=RejectionReason.ILLEGAL, rule=r.rule, detail=r.sentence, strategy=r.strategy, count=r.count)
        for r in grid.refusals
    )
    considered = len(grid) + sum(refusal.count for refusal in grid.refusals)
    profile = profile_for(Trainer(question.framework.name), context.device_type.kind)
    place = Place(arrays=place_of(context), device_type=str(context.device_type.name), profile=profile)
    found = search_grid(question, place, grid=grid) if len(grid) else None
    if found is None:
        dropped = (*refused, *_too_big(question, len(grid)))
        return ShapeResult(judged=(), dropped=dropped, num_considered=considered)
    judged = tuple(_judged(question, context, found, place=place, position=i) for i in range(len(found.best)))
    left = found.num_legal - len(judged) - found.num_too_big
    slower = Dropped(
        reason=RejectionReason.WORSE,
        rule="bound",
        detail=f"no faster than the {len(judged)} best of {question.shape.num_devices} devices, by their bounds or their times",
        strategy=None,
        count=max(0, left),
    )
    dropped = (*refused, *_too_big(question, found.num_too_big), *((slower,) if slower.count else ()))
    return ShapeResult(judged=judged, dropped=dropped, num_considered=considered)


def profile_for(trainer: Trainer, kind: DeviceKind) -> Profile:
    """The cost profile of a trainer on a kind of device."""
    if trainer is Trainer.MAXTEXT:
        return profile_of("maxtext" if kind is DeviceKind.TPU else "maxtext-gpu")
    return profile_of(PROFILE_OF[trainer])


def place_of(context: DeviceContext) -> PlaceArrays:
    """The place of a shape: its links and network as the pool names them, else those of the device type."""
    device, shape = context.device_type, context.shape
    usual = device.devices_per_node or shape.devices_per_node
    wide = device.domain_size > usual
    domain = min(device.domain_size, shape.num_devices) if wide else min(max(1, device.domain_size), shape.devices_per_node)
    return place_arrays(
        device,
        devices_per_node=shape.devices_per_node,
        link=context.pool.node_link,
        network=context.pool.network,
        domain=domain if device.domain_size > 1 else shape.devices_per_node,
    )


def _too_big(question: Question, count: int) -> tuple[Dropped, ...]:
    if not count:
        return ()
    device = question.device_type
    gib = device.memory_bytes / 1024**3
    detail = f"strategies of {question.shape.num_devices} devices need more than the {gib:.0f} GiB of a {device.name}"
    return (Dropped(reason=RejectionReason.DOES_NOT_FIT, rule="device-memory", detail=detail, strategy=None, count=count),)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """One strategy of a search, with what it was asked for."""

    question: Question
    context: DeviceContext
    found: Search
    place: Place
    position: int
    strategy: Strategy
    verdict: MemoryVerdict

    def seconds(self, name: str) -> float:
        """One part of its step."""
        return float(getattr(self.found.evaluated.time, name)[self.position])

    def bytes(self, name: str) -> float:
        """One part of its memory."""
        return float(getattr(self.found.evaluated.memory, name)[self.position])


def _judged(question: Question, context: DeviceContext, found: Search, *, place: Place, position: int) -> Judged:
    capacity = float(context.device_type.memory_bytes)
    peak = float(found.evaluated.memory.total[position])
    verdict = judge(peak, capacity, profile=place.profile)
    assert verdict.fit is not None
    answer = _Answer(
        question=question,
        context=context,
        found=found,
        place=place,
        position=position,
        strategy=found.best.strategy(position),
        verdict=verdict,
    )
    width = verdict.high_bytes - verdict.low_bytes
    return Judged(
        strategy=answer.strategy,
        prediction=_prediction(answer),
        fit=verdict.fit,
        headroom_frac=(capacity - peak) / capacity,
        overflow_frac=min(1.0, max(0.0, verdict.high_bytes - capacity) / width) if verdict.fit is FitVerdict.TIGHT else 0.0,
    )


def _prediction(answer: _Answer) -> Prediction:
    place, train = answer.place, answer.question.train
    precision = str(answer.strategy.precision)
    log = ConstantLog({entry.name: entry for entry in place.constants.listed(place.profile.name, place.device_type, precision)})
    memory = _memory(answer)
    storage = storage_times(train, answer.strategy, answer.context, memory=memory, log=log)
    parts = [TimePart(name=name, seconds=answer.seconds(field)) for field, name in _PARTS.items()]
    step = _step(answer)
    wait_s = storage.input_s - step.value
    if wait_s > 0.0:
        parts.append(TimePart(name="wait for input", seconds=wait_s))
        step = replace(step, value=storage.input_s, low=min(step.low, storage.input_s), high=max(step.high, storage.input_s))
    start = ROOFLINE[answer.context.device_type.kind].rank_start_s.constant()
    evaluations = train.num_steps // train.evaluate_every_steps if train.evaluate_every_steps else 0
    batches = log.note(EVALUATION_BATCHES.constant())
    fixed = (
        TimePart(name="start of the ranks", seconds=log.note(start)),
        TimePart(name="evaluation", seconds=(evaluations + 1) * batches * step.value / 3.0),
        TimePart(name="first input", seconds=storage.input_s),
        TimePart(name="last checkpoint", seconds=storage.checkpoint_s),
    )
    fixed_s = sum(part.seconds for part in fixed)
    return Prediction(
        step_s=step,
        memory=memory,
        parts=tuple(part for part in parts if part.seconds != 0.0),
        constants=log.all(),
        fixed_s=Estimate.within(
            fixed_s, 0.5, origin=Origin.ASSUMED, source=f"rank start, evaluations and checkpoints, written as {storage.source}"
        ),
        fixed_parts=tuple(part for part in fixed if part.seconds != 0.0),
        checkpoint_s=storage.checkpoint_s,
        restart_read_s=storage.restart_read_s,
        input_s=storage.input_s,
    )


def _step(answer: _Answer) -> Estimate:
    """The step with its interval: as wide as what is not known of it asks for."""
    place, step_s = answer.place, answer.seconds("step_s")
    doubt = Doubt(
        has_experts=any(stack.feed_forward.experts is not None for stack in answer.question.model.stacks),
        is_guessed=False,
        waiting_frac=max(0.0, 1.0 - answer.seconds("compute_s") / step_s),
    )
    low, high = interval(step_s, log_spread(doubt, place.constants.shared, num_measured=0))
    fitted = place.constants.device(place.device_type, str(answer.strategy.precision))[1]
    origin = Origin.PUBLISHED if fitted else Origin.ASSUMED
    return Estimate(value=step_s, low=low, high=high, origin=origin, source=f"training cost model, {place.constants.source}")


def _memory(answer: _Answer) -> tuple[RankMemory, ...]:
    """The fullest rank, said of every stage: the model computes the ends, and none between holds more."""
    total = Estimate(
        value=answer.bytes("total"),
        low=answer.verdict.low_bytes,
        high=answer.verdict.high_bytes,
        origin=Origin.PUBLISHED,
        source="formulas of docs/training-model.md",
    )
    return tuple(
        RankMemory(
            stage=stage,
            parameters_bytes=answer.bytes("parameters"),
            gradients_bytes=answer.bytes("gradients"),
            optimizer_bytes=answer.bytes("optimizer"),
            activations_bytes=answer.bytes("activations"),
            logits_bytes=0.0,
            communication_bytes=0.0,
            transient_bytes=answer.bytes("transient") + answer.bytes("resident"),
            total_bytes=total,
        )
        for stage in range(answer.strategy.pp)
    )
