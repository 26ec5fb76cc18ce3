"""What is added up after the backward pass, beside what FSDP2 does itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from workers.training.models import Transformer
from workers.training.parallel_held import Held
from workers.training.parallel_plan import RankPlan
from workers.training.parallel_replicas import Replicas
from workers.training.parallel_tensor import sequence_names

EMBEDDING = "embedding.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSums:
    """The sums of one rank.

    ``replicas`` over dp; ``partial`` names over ``tensor`` (sequence parallelism); ``shared`` names over ``holders``, the
    stages that hold the same embedding.
    """

    replicas: Replicas | None = None
    partial: tuple[str, ...] = ()
    tensor: dist.ProcessGroup | None = None
    shared: tuple[str, ...] = ()
    holders: dist.ProcessGroup | None = None

    def before_last_backward(self) -> None:
        """The next backward pass is the last of the step."""
        if self.replicas is not None:
            self.replicas.arm()

    def finish(self, held: Mapping[str, Held]) -> list[Tensor]:
        """The local gradients, summed, in the order of ``held``."""
        if self.replicas is not None:
            self.replicas.finish()
        gradients = {name: each.gradient() for name, each in held.items()}
        _add_up([gradients[name] for name in self.partial], self.tensor)
        _add_up([gradients[name] for name in self.shared], self.holders)
        return list(gradients.values())


def gradient_sums(module: Transformer, held: Sequence[Held], plan: RankPlan) -> GradientSums:
    """The sums that the strategy asks of this rank. All ranks call it, since it makes process groups."""
    strategy = plan.strategy
    if plan.mesh is None:
        return GradientSums()
    replicas = None
    if strategy.dp > 1 and strategy.fsdp == 1:
        replicas = Replicas([each.bearer for each in held], plan.group("dp"))
    holders = _embedding_holders(plan)
    return GradientSums(
        replicas=replicas,
        partial=tuple(sequence_names(module)) if plan.sequence_parallel else (),
        tensor=plan.group("tp") if plan.sequence_parallel else None,
        shared=(EMBEDDING,) if holders is not None else (),
        holders=holders,
    )


def _embedding_holders(plan: RankPlan) -> dist.ProcessGroup | None:
    """This rank's counterparts in all stages that hold the embedding; None where only one does, or this one does not.

    Every rank makes every group, in the same order, as torch requires.
    """
    assert plan.mesh is not None
    stages = [part.index for part in plan.parts if part.holds(EMBEDDING)]
    if len(stages) < 2:
        return None
    mine = None
    ranks = plan.mesh.mesh.flatten(1)
    for column in range(ranks.shape[1]):
        members = [int(ranks[stage, column]) for stage in stages]
        group = dist.new_group(members)
        if plan.rank in members:
            assert isinstance(group, dist.ProcessGroup)
            mine = group
    return mine


def _add_up(tensors: Sequence[Tensor], group: dist.ProcessGroup | None) -> None:
    """Sum the tensors in place over ``group``, in one message."""
    if not tensors or group is None:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat, group=group)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
