"""Sharded data parallelism through torch's FSDP2: one unit per layer and one for the rest of the stage.

ZeRO stage 3 gathers a unit's parameters for each forward and each backward and drops them after it; stage 2 gathers once per
step and keeps them; both scatter the gradients of every micro-batch, since only the sum's own part is kept. Stage 1 gathers
once per step, adds up whole gradients and scatters them once. Replicas (dp) are added up by FSDP2 itself, once per step.
Gradients are sums, never means: the engine divides by the number of targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from workers.training.models import Transformer
from workers.training.models.blocks import Layer
from workers.training.precision import Formats

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule


class ShardedUnits:
    """The FSDP2 units of a stage and what is told to them before each backward pass."""

    def __init__(self, model: Transformer, mesh: DeviceMesh, *, zero_stage: int, formats: Formats) -> None:
        """Shard ``model`` (on the meta device) over ``mesh``: (fsdp) or (dp, fsdp)."""
        # Imported here so that runs without sharding do not wait for it.
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        self.zero_stage = zero_stage
        policy = MixedPrecisionPolicy()
        if formats.mixed:
            policy = MixedPrecisionPolicy(param_dtype=formats.compute, reduce_dtype=formats.parameter, cast_forward_inputs=False)
        units: list[nn.Module] = [module for module in model.modules() if isinstance(module, Layer)]
        self.units: list[FSDPModule] = [
            fully_shard(unit, mesh=mesh, reshard_after_forward=zero_stage == 3, mp_policy=policy) for unit in (*units, model)
        ]
        self.root = self.units[-1]
        for each in self.units:
            each.set_gradient_divide_factor(1.0)
            each.set_force_sum_reduction_for_comms(True)

    def before_backward(self, *, last: bool) -> None:
        """Say whether the coming micro-batch is the last of the step."""
        if self.zero_stage == 1:
            self.root.set_requires_gradient_sync(last)
        else:
            self.root.set_requires_all_reduce(last)
        if self.zero_stage < 3:
            self.root.set_reshard_after_backward(last)
        self.root.set_is_last_backward(last)

    def after_forward_only(self) -> None:
        """Drop what a forward pass without a backward has gathered."""
        for each in self.units:
            each.reshard()
