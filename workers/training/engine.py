"""The training engine: one model, one strategy, one rank. The loop feeds it batches; it knows nothing of data, files or messages.

A step runs forward and backward over the micro-batches of this data rank, adds up gradients over the ranks that hold the same
parameters, and makes one small sum over all ranks of (loss, number of targets, squared gradient norm); every rank then
multiplies its gradients by the same factor and updates its part. The loss is the mean over all targets of the global batch,
however unequally the ranks' targets are spread, and does not depend on the strategy beyond rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab.model import ModelFamily, ModelSpec
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload
from workers.training.batch import Batch, num_targets
from workers.training.distributed import all_sum
from workers.training.memory import PeakMeter
from workers.training.optimizer import LocalOptimizer, clip_factor, learning_rate
from workers.training.parallel import ParallelModel, build_parallel_model
from workers.training.precision import allow_tf32

STEP_NAME = "step"

__all__ = ["Batch", "Engine", "StepNumbers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNumbers:
    """What a step found: mean loss over ``num_targets`` targets, and the gradient norm (None where nothing is clipped)."""

    loss: float
    num_targets: int
    gradient_norm: float | None


class Engine:
    """One rank's share of a training run. All ranks call the same methods in the same order."""

    def __init__(self, *, parallel: ParallelModel, model: ModelSpec, train: TrainWorkload, strategy: Strategy) -> None:
        self.parallel = parallel
        self.needs_source = model.family is ModelFamily.ENCODER_DECODER
        self.train = train
        self.strategy = strategy
        self.device = parallel.device
        self.num_updates = 0
        self.last: StepNumbers | None = None
        self.optimizer = LocalOptimizer(train.optimizer, parallel.local_parameters())
        self._meter = PeakMeter(self.device)
        self._num_positions = strategy.global_batch * train.sequence_length

    @classmethod
    def build(cls, *, model: ModelSpec, train: TrainWorkload, strategy: Strategy, device: torch.device) -> Engine:
        """The engine of this rank, with the initial values of ``train.seed``.

        Raises ValueError where the strategy asks for what the engine does not have, or does not fit the model or the number of
        ranks.
        """
        allow_tf32(strategy.precision)
        parallel = build_parallel_model(model=model, train=train, strategy=strategy, device=device)
        return cls(parallel=parallel, model=model, train=train, strategy=strategy)

    @property
    def data_rank(self) -> int:
        """Which share of the global batch this rank works on; ranks of one tensor or pipeline gang have the same."""
        return self.parallel.place.dp * self.strategy.fsdp + self.parallel.place.fsdp

    @property
    def num_data_ranks(self) -> int:
        """Shares of the global batch."""
        return self.strategy.data_ranks

    def step(self, batch: Batch) -> float:
        """Train on one global batch, of which ``batch`` is this data rank's share; the mean loss over all its targets.

        Raises ValueError where the batch has not ``micro_batch * num_micro_batches`` samples or no target at all.
        """
        self._check_size(batch)
        batch = batch.to(self.device)
        loss = self.parallel.forward_backward(batch, weight=1.0 / self._num_positions)
        gradients = self.parallel.reduced_gradients()
        clip = self.train.optimizer.clip_norm
        square = self.parallel.squared_norm(gradients) if clip > 0 else None
        total_loss, count, total_square = self._totals(loss, batch, square)
        if count == 0:
            raise ValueError("the global batch has no target")
        scale = self._num_positions / count
        norm = math.sqrt(total_square) * scale if clip > 0 else None
        factor = scale * (clip_factor(norm, clip) if norm is not None else 1.0)
        if factor != 1.0:
            torch._foreach_mul_(gradients, factor)
        rate = learning_rate(self.train.optimizer, self.num_updates, self.train.num_steps)
        self.optimizer.update(gradients, rate=rate)
        self.parallel.zero_gradients()
        self.num_updates += 1
        self.last = StepNumbers(loss=total_loss * scale, num_targets=count, gradient_norm=norm)
        return self.last.loss

    def measured_step(self, batch: Batch) -> float:
        """A step that also measures peak tensor bytes; slower, for designated steps only."""
        with self._meter.measured((*self.parallel.resident_tensors(), *self.optimizer.tensors(), *batch.tensors())):
            return self.step(batch)

    def evaluate(self, batch: Batch) -> tuple[float, int]:
        """Summed loss and number of targets over the global batch; changes nothing."""
        self._check_size(batch)
        batch = batch.to(self.device)
        loss, count, _ = self._totals(self.parallel.forward_only(batch), batch, None)
        return loss, count

    def model_state(self) -> dict[str, Tensor]:
        """Parameters of this rank by full name: DTensors where a mesh holds them in parts, plain tensors where this rank has the
        whole.
        """
        return {name: self.parallel.as_global(name, part) for name, part in self.parallel.local_parameters()}

    def optimizer_state(self) -> dict[str, Tensor]:
        """Optimizer state by ``<parameter>.<state>``, laid out as the parameters, and ``step``, the number of updates done."""
        state: dict[str, Tensor] = {STEP_NAME: torch.tensor(self.num_updates, dtype=torch.int64)}
        for name, parts in self.optimizer.state().items():
            for key, part in parts.items():
                state[f"{name}.{key}"] = self.parallel.as_global(name, part)
        return state

    def load(self, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> None:
        """Take over a state, saved under this or any other strategy.

        The mappings may be lazy and may hold more than this rank's names. A value is the whole tensor, or a DTensor laid out as
        here. Raises KeyError for a missing name and ValueError for a wrong shape.
        """
        steps = int(optimizer[STEP_NAME].item())
        for name, part in self.parallel.local_parameters():
            self.parallel.assign(name, part, model[name])
        for name, parts in self.optimizer.state().items():
            for key, part in parts.items():
                self.parallel.assign(name, part, optimizer[f"{name}.{key}"])
        self.optimizer.set_num_updates(steps)
        self.num_updates = steps

    def full_model_state(self) -> dict[str, Tensor] | None:
        """The whole model's parameters on the CPU, at rank 0 alone; all ranks take part."""
        return self.parallel.gather()

    def peak_tensor_bytes(self) -> int:
        """Highest bytes of tensors alive at once on this rank: of all steps on NVIDIA devices, of ``measured_step`` on CPUs."""
        return self._meter.peak_bytes

    def _totals(self, loss: Tensor, batch: Batch, square: Tensor | None) -> tuple[float, int, float]:
        """Loss, targets and squared norm of all ranks. ``loss`` is weighted; each value is counted at one rank of those that
        have it.
        """
        mine = torch.zeros(3, dtype=torch.float64, device=self.device)
        if self.parallel.has_loss:
            mine[0] = loss
            mine[1] = num_targets(batch)
        if square is not None:
            mine[2] = square
        total, count, total_square = all_sum(mine).tolist()
        return total, round(count), total_square

    def _check_size(self, batch: Batch) -> None:
        expected = self.strategy.micro_batch * self.strategy.num_micro_batches
        if batch.tokens.shape[0] != expected:
            raise ValueError(f"a batch of {expected} samples is expected on each data rank, found {batch.tokens.shape[0]}")
        if self.needs_source != (batch.source is not None):
            raise ValueError("an encoder-decoder needs a source batch, a decoder takes none")
