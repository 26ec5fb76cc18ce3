"""Peak tensor bytes of a rank, one entry per pipeline stage.

Two moments decide: the start of the backward pass of the last forwarded micro-batch (everything saved plus logits), and the
optimizer step (state and its temporaries). Sources: in-flight micro-batches of 1F1B [arXiv 2104.04473]; shares of sharded state
[arXiv 1910.02054]; saved activations are those of the operation list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.costs.constants import MEMORY_ERROR_FRAC, RESIDENT_BYTES
from planner.costs.operations import ELEMENT_BYTES
from trimtab.estimate import Estimate
from trimtab.plan import RankMemory
from trimtab.strategy import PipelineSchedule, Precision, Recompute
from trimtab.workload import OptimizerKind

if TYPE_CHECKING:
    from planner.costs.stages import Block, Stage
    from planner.costs.types import ConstantLog
    from trimtab.inventory import DeviceKind
    from trimtab.strategy import Strategy
    from trimtab.workload import TrainWorkload


def rank_memory(stage: Stage, train: TrainWorkload, strategy: Strategy, *, kind: DeviceKind, log: ConstantLog) -> RankMemory:
    """Memory of the ranks of one stage; the total carries the memory model's own error."""
    state = state_bytes(strategy.precision)
    shard = strategy.fsdp
    parameters = stage.parameters * state / (shard if strategy.zero_stage >= 3 else 1)
    gradients = stage.parameters * state / (shard if strategy.zero_stage >= 2 else 1)
    moments = 2 if train.optimizer.kind is OptimizerKind.ADAMW else int(train.optimizer.momentum > 0)
    optimizer = moments * stage.parameters * state / (shard if strategy.zero_stage >= 1 else 1)
    in_flight = num_in_flight(strategy, stage.index)
    layers = sum(block.count * saved_bytes(block, strategy.recompute) for block in stage.blocks if block.is_layer)
    rest = sum(saved_bytes(block, Recompute.NONE) for block in stage.blocks if not block.is_layer and block.name != "head")
    head = next((block for block in stage.blocks if block.name == "head"), None)
    logits = saved_bytes(head, Recompute.NONE) if head else 0.0
    transient = _transient(stage, strategy)
    communication = _communication(stage, strategy)
    activations = in_flight * (layers + rest)
    total = parameters + gradients + optimizer + activations + logits + transient + communication
    error = log.note(MEMORY_ERROR_FRAC.constant())
    return RankMemory(
        stage=stage.index,
        parameters_bytes=parameters,
        gradients_bytes=gradients,
        optimizer_bytes=optimizer,
        activations_bytes=activations,
        logits_bytes=logits,
        communication_bytes=communication,
        transient_bytes=transient,
        total_bytes=Estimate.within(total, error, origin=MEMORY_ERROR_FRAC.origin, source=MEMORY_ERROR_FRAC.source),
        resident_bytes=log.note(RESIDENT_BYTES[kind].constant()),
    )


def state_bytes(precision: Precision) -> int:
    """Bytes of one parameter, gradient or moment: single precision, double for fp64 (``docs/strategies.md``)."""
    return 8 if precision is Precision.FP64 else 4


def num_in_flight(strategy: Strategy, stage_index: int) -> int:
    """Micro-batches whose activations a stage holds at once: min(m, p - i) for 1F1B, all for GPipe."""
    if strategy.pp == 1:
        return 1
    num_stages = strategy.pp * strategy.virtual_stages
    if strategy.schedule is PipelineSchedule.GPIPE:
        return strategy.num_micro_batches
    return min(strategy.num_micro_batches, num_stages - stage_index)


def saved_bytes(block: Block, recompute: Recompute) -> float:
    """What one run of the block keeps for its backward pass."""
    if recompute is Recompute.FULL and block.is_layer:
        return block.input_bytes
    kept = sum(operation.saved_bytes for operation in block.operations)
    if recompute is Recompute.SELECTIVE and block.is_layer:
        kept -= sum(operation.saved_bytes for operation in block.operations if operation.name == "attention")
    return kept


def _transient(stage: Stage, strategy: Strategy) -> float:
    """The largest temporary of a backward operation, and one whole layer where it is computed again."""
    live = max((op.backward_live_bytes for block in stage.blocks for op in block.operations), default=0.0)
    if strategy.recompute is Recompute.FULL:
        live += max((saved_bytes(block, Recompute.NONE) for block in stage.blocks if block.is_layer), default=0.0)
    return live


def _communication(stage: Stage, strategy: Strategy) -> float:
    """Gathered parameters of two units (sharded data parallel) and pipeline buffers of both directions."""
    width = ELEMENT_BYTES[strategy.precision]
    gathered = 0.0
    if strategy.zero_stage >= 3:
        units = sorted((float(block.parameters) for block in stage.blocks for _ in range(block.count)), reverse=True)
        gathered = sum(units[:2]) * width
    return gathered + 2.0 * stage.boundary_bytes
