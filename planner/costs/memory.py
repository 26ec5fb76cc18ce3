"""Peak tensor bytes of a rank, one entry per pipeline stage.

The backward pass of one micro-batch is walked operation by operation: what is saved shrinks, gradients grow, and each operation
has its own temporaries; the highest moment is the peak. Beside it stand the sum of gradients over replicas (which flattens them)
and the optimizer's update. Sources: in-flight micro-batches of 1F1B [arXiv 2104.04473]; sharded state [arXiv 1910.02054].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from planner.costs.constants import (
    COMPILER_BYTES,
    HEAP_HOLES_FRAC,
    MEMORY_ERROR_FRAC,
    RECOMPUTE_HEAP_HOLES_FRAC,
    RESIDENT_BYTES,
    SEQUENCE_MEMORY_ERROR_FRAC,
)
from planner.costs.operations import ELEMENT_BYTES
from planner.costs.recompute import restored_bytes, saved_bytes
from trimtab.estimate import Estimate
from trimtab.inventory import DeviceKind
from trimtab.plan import RankMemory
from trimtab.strategy import PipelineSchedule, Precision, Recompute
from trimtab.workload import OptimizerKind

if TYPE_CHECKING:
    from planner.costs.stages import Block, Stage
    from planner.costs.types import ConstantLog, Operation
    from trimtab.strategy import Strategy
    from trimtab.workload import TrainWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class _Peak:
    """The highest moment beyond parameters and optimizer state."""

    total: float
    gradients: float
    activations: float
    logits: float
    transient: float


def rank_memory(stage: Stage, train: TrainWorkload, strategy: Strategy, *, kind: DeviceKind, log: ConstantLog) -> RankMemory:
    """Memory of the ranks of one stage; the total carries the memory model's own error."""
    state = state_bytes(strategy.precision)
    parameters = stage.parameters * state / (strategy.fsdp if strategy.zero_stage >= 1 else 1)
    moments = 2 if train.optimizer.kind is OptimizerKind.ADAMW else int(train.optimizer.momentum > 0)
    optimizer = moments * stage.parameters * state / (strategy.fsdp if strategy.zero_stage >= 1 else 1)
    peak = max((_backward(stage, strategy), _update(stage, strategy)), key=lambda moment: moment.total)
    communication = _communication(stage, strategy)
    total = parameters + optimizer + peak.total + communication
    bounded = SEQUENCE_MEMORY_ERROR_FRAC if strategy.sequence_parallel else MEMORY_ERROR_FRAC
    error = log.note(bounded.constant())
    return RankMemory(
        stage=stage.index,
        parameters_bytes=parameters,
        gradients_bytes=peak.gradients,
        optimizer_bytes=optimizer,
        activations_bytes=peak.activations,
        logits_bytes=peak.logits,
        communication_bytes=communication,
        transient_bytes=peak.transient,
        total_bytes=Estimate.within(total, error, origin=bounded.origin, source=bounded.source),
        resident_bytes=_resident(strategy, kind, log),
        allocator_bytes=_holes(peak.total + communication, strategy, kind, log),
    )


def _resident(strategy: Strategy, kind: DeviceKind, log: ConstantLog) -> float:
    """What a process holds beside tensors. On a host that includes torch's compiler, which recompute and every kind of
    parallelism import when they first run (``torch._disable_dynamo``), though nothing is compiled.
    """
    resident = log.note(RESIDENT_BYTES[kind].constant())
    if kind is DeviceKind.CPU and (strategy.world_size > 1 or strategy.recompute is not Recompute.NONE):
        resident += log.note(COMPILER_BYTES.constant())
    return resident


def _holes(comes_and_goes: float, strategy: Strategy, kind: DeviceKind, log: ConstantLog) -> Estimate:
    """What a host's heap loses between tensors of different sizes and lives: it is never compacted, and gives nothing back.

    A share of the bytes that come and go in a step; parameters and moments are allocated once and leave no holes.
    """
    if kind is not DeviceKind.CPU:
        return Estimate(value=0.0, low=0.0, high=0.0, origin=HEAP_HOLES_FRAC.origin, source="a device's own allocator")
    holes = HEAP_HOLES_FRAC if strategy.recompute is Recompute.NONE else RECOMPUTE_HEAP_HOLES_FRAC
    share = log.note(holes.constant())
    return Estimate(
        value=share * comes_and_goes,
        low=holes.low * comes_and_goes,
        high=holes.high * comes_and_goes,
        origin=holes.origin,
        source=holes.source,
    )


def state_bytes(precision: Precision) -> int:
    """Bytes of one parameter, gradient or moment: single precision, double for fp64 (``docs/strategies.md``)."""
    return 8 if precision is Precision.FP64 else 4


def num_in_flight(strategy: Strategy, stage_index: int) -> int:
    """Micro-batches whose activations a stage holds at once: min(m, p - i) for 1F1B, all for GPipe.

    With fewer micro-batches than stages the trainer runs GPipe.
    """
    if strategy.pp == 1:
        return 1
    num_stages = strategy.pp * strategy.virtual_stages
    if strategy.schedule is PipelineSchedule.GPIPE or strategy.num_micro_batches < strategy.pp:
        return strategy.num_micro_batches
    return min(strategy.num_micro_batches, num_stages - stage_index)


def block_saved_bytes(block: Block, recompute: Recompute) -> float:
    """What one run of the block keeps for its backward pass."""
    chosen = recompute if block.is_layer else Recompute.NONE
    return saved_bytes(block.operations, chosen, input_bytes=block.input_bytes)


def _backward(stage: Stage, strategy: Strategy) -> _Peak:
    """Walks the backward pass of one micro-batch while the others in flight are whole."""
    one = sum(block.count * block_saved_bytes(block, strategy.recompute) for block in stage.blocks)
    in_flight = num_in_flight(strategy, stage.index)
    walk = _Walk(strategy, stage, left=one, accumulates=strategy.num_micro_batches > in_flight)
    for block in reversed(stage.blocks):
        walk.back_through(block)
    others = (in_flight - 1) * one + in_flight * _held_outputs(stage, strategy)
    best = walk.best
    return replace(best, total=best.total + others, activations=best.activations + others)


def _held_outputs(stage: Stage, strategy: Strategy) -> float:
    """A pipeline's schedule holds the output of each micro-batch in flight: the stream of the next stage, or the logits."""
    return 0.0 if strategy.pp == 1 else stage.output_bytes


class _Walk:
    """Goes back through the operations of a stage and remembers the highest moment."""

    def __init__(self, strategy: Strategy, stage: Stage, *, left: float, accumulates: bool) -> None:
        self._strategy = strategy
        self._state = state_bytes(strategy.precision)
        self._left = left
        self._grown = 0.0
        self._accumulates = accumulates
        self._whole = stage.parameters * self._state / (strategy.fsdp if strategy.zero_stage >= 2 else 1)
        layers = [block for block in stage.blocks if block.is_layer]
        self._layer = max((float(block.parameters) for block in layers), default=0.0)
        self._num_layers = sum(block.count for block in layers)
        self._rest = float(sum(block.parameters for block in stage.blocks if not block.is_layer))
        self._held = (self._gathered(is_loss=False), self._gathered(is_loss=True))
        self.best = _Peak(total=0.0, gradients=0.0, activations=0.0, logits=0.0, transient=0.0)

    def back_through(self, block: Block) -> None:
        """The backward passes of all runs of a block.

        From run to run what is left falls and gradients grow by equal amounts until they are whole (with accumulation they are
        from the start), so a moment is highest in the first or last run, or where they become whole; only these runs are walked.
        """
        recompute = self._strategy.recompute if block.is_layer else Recompute.NONE
        kept = block_saved_bytes(block, self._strategy.recompute)
        own = sum(operation.saved_bytes for operation in block.operations)
        scale = (kept + restored_bytes(block.operations, recompute)) / own if own else 1.0
        grows = sum(operation.weights for operation in block.operations) * self._state
        left, grown = self._left, self._grown
        for run in self._runs(block.count, grown, grows):
            self._left, self._grown = left - (run + 1) * kept, grown + run * grows
            here = own * scale
            for operation in reversed(block.operations):
                self._moment(operation, here, block.input_bytes)
                here -= operation.saved_bytes * scale
                self._grown += operation.weights * self._state
        self._left, self._grown = left - block.count * kept, grown + block.count * grows

    def _runs(self, count: int, grown: float, grows: float) -> list[int]:
        if self._accumulates:
            return [0]
        whole_at = int((self._whole - grown) / grows) if grows > 0.0 else 0
        return sorted({run for run in (0, whole_at - 1, whole_at, whole_at + 1, count - 1) if 0 <= run < count})

    def _gathered(self, *, is_loss: bool) -> float:
        """Whole parameters of sharded units at a moment: stage 3 has none while the loss is made, then the rest of the stage, two
        layers (one fetched ahead) and the gradients of one; stages 1 and 2 keep all. Two buffers stay behind from earlier passes.
        """
        strategy = self._strategy
        if strategy.zero_stage == 0:
            return 0.0
        width = ELEMENT_BYTES[strategy.precision]
        behind = 2.0 * max(self._rest, self._layer) * width if strategy.num_micro_batches > 1 else 0.0
        if strategy.zero_stage < 3:
            return (self._rest + self._num_layers * self._layer) * width + behind
        if is_loss:
            return behind
        return (self._rest + 2.0 * self._layer) * width + self._layer * self._state + behind

    def _moment(self, operation: Operation, here: float, stream_bytes: float) -> None:
        is_loss = operation.name == "cross-entropy"
        logits = operation.saved_bytes + operation.backward_live_bytes if is_loss else 0.0
        scratch = operation.weights * self._state if self._accumulates else 0.0
        transient = 0.0 if is_loss else operation.backward_live_bytes + stream_bytes + scratch
        activations = self._left + here - (operation.saved_bytes if is_loss else 0.0)
        gradients = self._whole if self._accumulates else min(self._grown, self._whole)
        transient += self._held[is_loss]
        total = activations + logits + transient + gradients
        if total > self.best.total:
            self.best = _Peak(total=total, gradients=gradients, activations=activations, logits=logits, transient=transient)


def _update(stage: Stage, strategy: Strategy) -> _Peak:
    """After the backward pass: whole gradients, twice while replicas add them up in flat buckets."""
    state = state_bytes(strategy.precision)
    gradients = stage.parameters * state / (strategy.fsdp if strategy.zero_stage >= 1 else 1)
    flat = gradients if strategy.dp > 1 and strategy.fsdp == 1 else 0.0
    return _Peak(total=gradients + flat, gradients=gradients, activations=0.0, logits=0.0, transient=flat)


def _communication(stage: Stage, strategy: Strategy) -> float:
    """Buffers of a pipeline, one per micro-batch and direction; those in flight are counted as the stage's first activation."""
    if strategy.pp == 1:
        return 0.0
    num_micro = strategy.num_micro_batches
    arriving = (num_micro - num_in_flight(strategy, stage.index)) * stage.received_bytes
    return arriving + num_micro * stage.boundary_bytes
