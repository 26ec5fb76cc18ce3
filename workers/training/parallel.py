"""Spreads a model over the ranks of a strategy.

The model is built without storage, cut to this rank's pipeline stage, its parameters distributed over the tensor axis and then
the sharded axis, and only then filled: each rank keeps its part of the same initial values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trimtab.model import ModelFamily, ModelSpec
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload
from workers.training.batch import Batch
from workers.training.distributed import Place, build_mesh
from workers.training.layout import Layout, box_of
from workers.training.loss import LossFunction, summed_loss
from workers.training.models import Initialiser, Transformer, build_on_meta
from workers.training.parallel_held import Held, squared_norm
from workers.training.precision import arithmetic, formats


class ParallelModel:
    """This rank's part of the model, and what is done with it in a step."""

    def __init__(
        self, *, module: Transformer, held: Sequence[Held], place: Place, strategy: Strategy, needs_source: bool
    ) -> None:
        self.module = module
        self.held = {each.name: each for each in held}
        self.place = place
        self.strategy = strategy
        self.needs_source = needs_source
        self.has_loss = True
        self._loss: LossFunction = summed_loss
        self._device = held[0].local.device

    def local_parameters(self) -> list[tuple[str, Tensor]]:
        """Name and local part of each parameter of this rank."""
        return [(each.name, each.local) for each in self.held.values()]

    def forward_backward(self, batch: Batch, *, weight: float) -> Tensor:
        """Gradients of ``weight`` times the summed loss of the batch; that weighted loss."""
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for micro in batch.split(self.strategy.micro_batch):
            with arithmetic(self.strategy.precision, self._device):
                loss = self._loss(self.module(micro.tokens, micro.source), micro.targets) * weight
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def forward_only(self, batch: Batch) -> Tensor:
        """Summed loss of the batch."""
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        with torch.no_grad(), arithmetic(self.strategy.precision, self._device):
            for micro in batch.split(self.strategy.micro_batch):
                total += self._loss(self.module(micro.tokens, micro.source), micro.targets)
        return total

    def reduced_gradients(self) -> list[Tensor]:
        """Local gradients in the order of the parameters, added up over the ranks that hold the same part."""
        return [each.gradient() for each in self.held.values()]

    def squared_norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """This rank's share of the squared norm of all gradients."""
        counted = [gradient for gradient, each in zip(gradients, self.held.values(), strict=True) if each.layout.primary]
        return squared_norm(counted)

    def zero_gradients(self) -> None:
        """Free all gradients."""
        for each in self.held.values():
            each.bearer.grad = None

    def resident_tensors(self) -> list[Tensor]:
        """Tensors that live from step to step."""
        return [each.local for each in self.held.values()]

    def as_global(self, name: str, part: Tensor) -> Tensor:
        """A part laid out as the parameter of that name, as a tensor of the whole's shape."""
        return self.held[name].as_global(part)

    def assign(self, name: str, part: Tensor, value: Tensor) -> None:
        """Copy the whole ``value``, or a DTensor laid out as here, into ``part``."""
        self.held[name].assign(part, value)

    def gather(self) -> dict[str, Tensor] | None:
        """All parameters whole on the CPU at rank 0; None at the others."""
        return {name: each.local.detach().cpu().clone() for name, each in self.held.items()}


def build_parallel_model(*, model: ModelSpec, train: TrainWorkload, strategy: Strategy, device: torch.device) -> ParallelModel:
    """This rank's part of the model, filled with initial values."""
    build_mesh(strategy, device)
    module = build_on_meta(model, formats(strategy.precision, device).parameter)
    module.to_empty(device=device)
    module.tie()
    initialiser = Initialiser(model, train.seed)
    held = []
    for name, parameter in module.named_parameters():
        shape = tuple(parameter.shape)
        layout = Layout(shape=shape, box=box_of(shape, tensor=None, sharded=None))
        held.append(Held(name=name, parameter=parameter, local=parameter, layout=layout, leaf=True))
    for each in held:
        with torch.no_grad():
            each.local.copy_(each.layout.part(initialiser.value(each.name, torch.Size(each.layout.shape))))
    needs_source = model.family is ModelFamily.ENCODER_DECODER
    return ParallelModel(module=module, held=held, place=Place(), strategy=strategy, needs_source=needs_source)
