"""The parameters of one rank: their names, local tensors, gradients and layouts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from workers.training.layout import Layout

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor, Placement


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
        return found if self.leaf or self.mesh is None else as_distributed(found).to_local()

    def as_global(self, part: Tensor) -> Tensor:
        """``part`` (laid out as this parameter) as a tensor of the whole's shape: a DTensor, or itself where it is the whole."""
        part = part.detach()
        if self.mesh is None:
            return part
        from torch.distributed.tensor import DTensor

        shape = torch.Size(self.layout.shape)
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(part, self.mesh, self.placements, run_check=False, shape=shape, stride=stride)

    def assign(self, part: Tensor, value: Tensor) -> None:
        """Copy ``value``, the whole or a DTensor laid out as this parameter, into ``part``."""
        with torch.no_grad():
            if not is_distributed(value):
                part.copy_(self.layout.part(value))
                return
            distributed = as_distributed(value)
            if distributed.device_mesh == self.mesh and tuple(distributed.placements) == self.placements:
                part.copy_(distributed.to_local())
            else:
                part.copy_(self.layout.part(distributed.full_tensor()))


def is_distributed(tensor: Tensor) -> bool:
    """Whether the tensor is a DTensor. Does not import DTensor (seconds) in a process that has made none."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def as_distributed(tensor: Tensor) -> DTensor:
    """The tensor, which must be a DTensor."""
    assert is_distributed(tensor)
    return cast("DTensor", tensor)


def local_of(tensor: Tensor) -> Tensor:
    """This rank's part of a DTensor, sharing its storage; a plain tensor itself."""
    if not is_distributed(tensor):
        return tensor
    with torch.no_grad():
        return as_distributed(tensor).to_local().detach()


def squared_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Sum of squares of all elements, in float64."""
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    norms = torch._foreach_norm(list(gradients))
    return torch.stack(norms).double().square().sum()
