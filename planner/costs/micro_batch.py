"""Time of one micro-batch on one pipeline stage: kernels, launches, tensor and shard communication."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.costs.constants import INTERFERENCE_FRAC
from planner.costs.memory import state_bytes
from planner.costs.operations import ELEMENT_BYTES
from planner.costs.recompute import again, exchanges_again, works_again
from planner.costs.types import Exchange, Seconds, Work
from trimtab.inventory import ProbeKernel
from trimtab.strategy import Precision, Recompute

if TYPE_CHECKING:
    from planner.costs.stages import Block, Stage
    from planner.costs.types import ConstantLog, KernelTimes, Operation, RankSpan
    from trimtab.strategy import Strategy


@dataclass(slots=True)
class TimeSum:
    """Seconds with the error of their parts; the parts err together, so errors add."""

    value: float = 0.0
    error: float = 0.0

    def add(self, seconds: Seconds, count: float = 1.0) -> None:
        """Add ``count`` times ``seconds``."""
        self.value += seconds.value * count
        self.error += seconds.value * seconds.error_frac * count

    def merge(self, other: TimeSum, count: float = 1.0) -> None:
        """Add ``count`` times another sum."""
        self.value += other.value * count
        self.error += other.error * count


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """One micro-batch on one stage, in seconds; ``error_s`` is the half width of the 80 % interval of their sum."""

    forward_s: float
    backward_s: float
    recompute_s: float
    tensor_s: float
    shard_s: float
    error_s: float

    @property
    def total_s(self) -> float:
        """All parts."""
        return self.forward_s + self.backward_s + self.recompute_s + self.tensor_s + self.shard_s

    @property
    def way_there_s(self) -> float:
        """The forward half, with half of the communication."""
        return self.forward_s + (self.tensor_s + self.shard_s) / 2

    @property
    def way_back_s(self) -> float:
        """The backward half."""
        return self.total_s - self.way_there_s


class StageTimer:
    """Adds up the operations of stages; equal blocks are added up once."""

    def __init__(
        self, strategy: Strategy, times: KernelTimes, *, spans: dict[str, RankSpan], log: ConstantLog, memo: dict[object, Any]
    ) -> None:
        self._strategy = strategy
        self._times = times
        self._spans = spans
        self._log = log
        self._launch = tuple(self.fixed(ProbeKernel.LAUNCH, (way,)) for way in (0, 1))
        self._memo = memo

    def fixed(self, kernel: ProbeKernel, shape: tuple[int, ...] = ()) -> Seconds:
        """A cost without sizes."""
        return self._times.kernel(Work(kernel=kernel, shape=shape), self._strategy.precision)

    def time(self, stage: Stage) -> StageTime:
        """One micro-batch on ``stage``."""
        forward, backward, recompute, tensor, shard = (TimeSum() for _ in range(5))
        for block in stage.blocks:
            for total, part in zip((forward, backward, recompute, tensor), self._block(block), strict=True):
                total.merge(part, block.count)
        self._accumulate(backward, stage)
        self._shard(shard, stage)
        compute = forward.value + backward.value + recompute.value
        exposed = shard.value
        if self._times.overlaps and shard.value:
            interference = self._log.note(INTERFERENCE_FRAC.constant())
            exposed = max(compute, shard.value) + interference * min(compute, shard.value) - compute
        return StageTime(
            forward_s=forward.value,
            backward_s=backward.value,
            recompute_s=recompute.value,
            tensor_s=tensor.value,
            shard_s=exposed,
            error_s=sum(part.error for part in (forward, backward, recompute, tensor, shard)),
        )

    def _block(self, block: Block) -> tuple[TimeSum, TimeSum, TimeSum, TimeSum]:
        """The sums of a block, remembered by all that they depend on beside the context.

        The operations are known by identity, which is cheap; they are kept with the sums, so that no other ones can take it. The
        constants that the sums rest on are remembered with them.
        """
        strategy = self._strategy
        chosen = strategy.recompute if block.is_layer else Recompute.NONE
        key = (id(block.operations), chosen, strategy.precision, strategy.world_size, self._spans["tp"])
        found = self._memo.get(key)
        if found is None:
            times = self._times.renewed()
            sums = StageTimer(strategy, times, spans=self._spans, log=self._log, memo=self._memo)._add_block(block)
            found = self._memo[key] = (block.operations, sums, times.constants())
        for constant in found[2]:
            self._log.note(constant)
        return found[1]

    def _add_block(self, block: Block) -> tuple[TimeSum, TimeSum, TimeSum, TimeSum]:
        forward, backward, recompute, tensor = (TimeSum() for _ in range(4))
        chosen = self._strategy.recompute if block.is_layer else Recompute.NONE
        for operation in block.operations:
            self._works(forward, operation.forward, operation.launches[0], way=0)
            self._works(backward, operation.backward, operation.launches[1], way=1)
            self._exchanges(tensor, (*operation.forward_exchanges, *operation.backward_exchanges))
        for operation in again(block.operations, chosen):
            self._works(recompute, works_again(operation, chosen), operation.launches[0], way=0)
            if exchanges_again(operation, chosen):
                self._exchanges(tensor, operation.forward_exchanges)
        if chosen is not Recompute.NONE:
            self._checkpoint(recompute, block.operations, chosen)
        return forward, backward, recompute, tensor

    def _works(self, total: TimeSum, works: tuple[Work, ...], launches: int, *, way: int) -> None:
        for work in works:
            total.add(self._times.kernel(work, self._strategy.precision), work.count)
        total.add(self._launch[way], launches)

    def _exchanges(self, total: TimeSum, exchanges: tuple[Exchange, ...]) -> None:
        for exchange in exchanges:
            total.add(self._times.exchange(exchange, self._spans), exchange.count)

    def _checkpoint(self, total: TimeSum, operations: tuple[Operation, ...], recompute: Recompute) -> None:
        """What torch's checkpoint costs beside kernels: per layer, saved tensor, and operator where it sorts them (selective)."""
        num_kernels = sum(len(operation.forward) for operation in operations)
        num_views = sum(operation.launches[0] for operation in operations)
        total.add(self.fixed(ProbeKernel.CHECKPOINT_LAUNCH, (0,)))
        num_saved = sum(operation.num_saved for operation in operations)
        total.add(self.fixed(ProbeKernel.CHECKPOINT_LAUNCH, (1,)), num_saved)
        if recompute is Recompute.SELECTIVE:
            total.add(self.fixed(ProbeKernel.CHECKPOINT_LAUNCH, (2,)), num_kernels + num_views)

    def _accumulate(self, total: TimeSum, stage: Stage) -> None:
        """Gradients of all micro-batches but the first are added to those that are there."""
        num_micro = self._strategy.num_micro_batches
        if num_micro < 2:
            return
        shard = self._strategy.fsdp if self._strategy.zero_stage >= 2 else 1
        size = max(1, stage.parameters // shard // max(1, stage.num_tensors))
        work = Work(kernel=ProbeKernel.ELEMENTWISE, shape=(size, 3))
        share = (num_micro - 1) / num_micro
        total.add(self._times.kernel(work, state_precision(self._strategy)), stage.num_tensors * share)

    def _shard(self, total: TimeSum, stage: Stage) -> None:
        """Gathers and scatters of sharded units: each copies the unit once more than it travels.

        Stage 3 gathers each unit for the forward and again for the backward pass; stage 2 gathers once per step.
        Both scatter the gradients of every micro-batch; stage 1 does all once per step.
        """
        strategy = self._strategy
        if strategy.zero_stage == 0:
            return
        width = ELEMENT_BYTES[strategy.precision]
        once = 1.0 / strategy.num_micro_batches
        unit = self.fixed(ProbeKernel.UNIT_LAUNCH)
        for count, parameters, gathers in _units(stage):
            repeated = gathers if strategy.zero_stage == 3 else once
            scatters = once if strategy.zero_stage == 1 else 1.0
            gather = Exchange(kernel=ProbeKernel.ALL_GATHER, group="fsdp", num_bytes=float(parameters * width))
            total.add(self._times.exchange(gather, self._spans), count * repeated)
            num_bytes = float(parameters * state_bytes(strategy.precision))
            scatter = Exchange(kernel=ProbeKernel.REDUCE_SCATTER, group="fsdp", num_bytes=num_bytes)
            total.add(self._times.exchange(scatter, self._spans), count * scatters)
            copy = self._times.kernel(Work(kernel=ProbeKernel.ELEMENTWISE, shape=(parameters, 2)), strategy.precision)
            total.add(copy, count * (repeated + scatters))
            total.add(unit, count)


def state_precision(strategy: Strategy) -> Precision:
    """What parameters, gradients and optimizer state are kept in."""
    return Precision.FP64 if strategy.precision is Precision.FP64 else Precision.FP32


def _units(stage: Stage) -> list[tuple[int, int, float]]:
    """(count, parameters, gathers of a micro-batch under stage 3): one unit per layer, one for the rest of the stage."""
    units = [(block.count, block.parameters, 2.0) for block in stage.blocks if block.is_layer]
    rest = sum(block.parameters for block in stage.blocks if not block.is_layer)
    return [*units, (1, rest, 2.0)] if rest else units
