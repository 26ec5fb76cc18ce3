"""The parameters of one rank: their names, local tensors, gradients and layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement

from workers.training.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One parameter of this rank.

    ``parameter`` is what the module has registered; ``local`` this rank's part of it, sharing its storage. Where ``leaf`` is set
    the arithmetic runs on ``local`` and its gradient gathers there; otherwise on ``parameter``. ``mesh`` and ``placements`` say
    how the parts form the whole; no mesh: ``local`` is the whole.
    """

    name: str
    parameter: nn.Parameter
    local: Tensor
    layout: Layout
    leaf: bool
    mesh: DeviceMesh | None = None
    placements: tuple[Placement, ...] = ()

    @property
    def bearer(self) -> Tensor:
        """The tensor whose ``grad`` autograd fills."""
        return self.local if self.leaf else self.parameter

    def gradient(self) -> Tensor:
        """The local gradient; zeros where no computation of this step touched the parameter."""
        found = self.bearer.grad
        if found is None:
            return torch.zeros_like(self.local)
        return found.to_local() if isinstance(found, DTensor) else found

    def as_global(self, part: Tensor) -> Tensor:
        """``part`` (laid out as this parameter) as a tensor of the whole's shape: a DTensor, or itself where it is the whole."""
        part = part.detach()
        if self.mesh is None:
            return part
        shape = torch.Size(self.layout.shape)
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(part, self.mesh, self.placements, run_check=False, shape=shape, stride=stride)

    def assign(self, part: Tensor, value: Tensor) -> None:
        """Copy ``value``, the whole or a DTensor laid out as this parameter, into ``part``."""
        with torch.no_grad():
            if not isinstance(value, DTensor):
                part.copy_(self.layout.part(value))
            elif value.device_mesh == self.mesh and tuple(value.placements) == self.placements:
                part.copy_(value.to_local())
            else:
                part.copy_(self.layout.part(value.full_tensor()))


def squared_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Sum of squares of all elements, in float64."""
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    norms = torch._foreach_norm(list(gradients))
    return torch.stack(norms).double().square().sum()
