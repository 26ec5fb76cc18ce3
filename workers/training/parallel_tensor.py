"""Tensor parallelism: DTensor holds the parameters, plain tensors compute.

The parameters are DTensors over the tensor axis; the forward of a module works on this rank's part directly, with the few
collectives of arXiv 1909.08053 (section 3) as autograd functions. torch's own styles would dispatch each linear layer as a
DTensor operation, which costs more than the layer itself where layers are small (docs/decisions).

With sequence parallelism (arXiv 2205.05198, section 4.2.2) the residual stream between blocks holds only S/t positions, and each
all-reduce becomes an all-gather and a reduce-scatter.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from workers.training.layout import chunk, cut_dimension
from workers.training.models import Transformer
from workers.training.parallel_held import as_distributed, is_distributed

SEQUENCE = 1
"""Dimension of positions in an activation [B, S, H]."""


def gather_sequence(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Join the parts [B, S/t, H] of all ranks to [B, S, H]."""
    parts = x.new_empty((group.size(), *x.shape))
    dist.all_gather_into_tensor(parts.flatten(0, 1), x.contiguous(), group=group)
    return parts.movedim(0, SEQUENCE).flatten(SEQUENCE, SEQUENCE + 1)


def scatter_sum_sequence(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Add up [B, S, H] over the ranks and keep this rank's S/t positions."""
    parts = torch.stack(x.chunk(group.size(), dim=SEQUENCE))
    out = torch.empty_like(parts[0])
    dist.reduce_scatter_tensor(out, parts.flatten(0, 1), group=group)
    return out


def own_sequence(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """This rank's S/t positions of [B, S, H]."""
    return x.chunk(group.size(), dim=SEQUENCE)[group.rank()].contiguous()


class Enter(torch.autograd.Function):
    """Into a region where each rank computes with its part of the weights: nothing forward, a sum of the gradients backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        """The same activation."""
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Sum over the ranks."""
        gradient = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


class Leave(torch.autograd.Function):
    """Out of that region: a sum of the partial results forward, nothing backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        """Sum over the ranks."""
        out = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(out, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """The same gradient."""
        return grads[0], None


class EnterSequence(torch.autograd.Function):
    """Into the region from S/t positions: all-gather forward, reduce-scatter backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        """[B, S/t, H] to [B, S, H]."""
        ctx.group = group
        return gather_sequence(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """[B, S, H] to [B, S/t, H]."""
        return scatter_sum_sequence(grads[0], ctx.group), None


class LeaveSequence(torch.autograd.Function):
    """Out of it to S/t positions: reduce-scatter forward, all-gather backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        """[B, S, H] to [B, S/t, H]."""
        ctx.group = group
        return scatter_sum_sequence(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """[B, S/t, H] to [B, S, H]."""
        return gather_sequence(grads[0], ctx.group), None


class OwnSequence(torch.autograd.Function):
    """From the whole sequence, equal at all ranks, to S/t positions: a cut forward, an all-gather backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        """[B, S, H] to [B, S/t, H]."""
        ctx.group = group
        return own_sequence(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """[B, S/t, H] to [B, S, H]."""
        return gather_sequence(grads[0], ctx.group), None


def local_part(module: nn.Module, name: str) -> Tensor | None:
    """This rank's part of a module's parameter: the leaf put there by ``use_leaves``, else the parameter's local tensor."""
    leaves: dict[str, Tensor] | None = module.__dict__.get("local_parts")
    if leaves is not None:
        return leaves.get(name)
    parameter = getattr(module, name)
    if parameter is None or not is_distributed(parameter):
        return cast("Tensor | None", parameter)
    return as_distributed(parameter).to_local()


def _column_forward(module: nn.Module, x: Tensor) -> Tensor:
    weight = local_part(module, "weight")
    assert weight is not None
    return F.linear(x, weight, local_part(module, "bias"))


def _row_forward(module: nn.Module, leave: type[torch.autograd.Function], group: dist.ProcessGroup, x: Tensor) -> Tensor:
    weight = local_part(module, "weight")
    assert weight is not None
    out: Tensor = leave.apply(F.linear(x, weight), group)
    bias = local_part(module, "bias")
    return out if bias is None else out + bias.to(out.dtype)


def _embedding_forward(module: nn.Embedding, group: dist.ProcessGroup, tokens: Tensor) -> Tensor:
    weight = local_part(module, "weight")
    assert weight is not None
    first, stop = chunk(module.num_embeddings, group.size(), group.rank())
    elsewhere = (tokens < first) | (tokens >= stop)
    rows = F.embedding((tokens - first).masked_fill(elsewhere, 0), weight).masked_fill(elsewhere[..., None], 0)
    out: Tensor = Leave.apply(rows, group)
    return out


def apply_tensor_parallel(model: Transformer, mesh: DeviceMesh, *, sequence_parallel: bool) -> None:
    """Spread ``model`` (on the meta device, cut to its stage) over the one-dimensional ``mesh``."""
    group = mesh.get_group()
    enter: type[torch.autograd.Function] = EnterSequence if sequence_parallel else Enter
    leave: type[torch.autograd.Function] = LeaveSequence if sequence_parallel else Leave
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if module is model.head or last in ("query", "key", "value", "gate", "up"):
            module.__dict__["forward"] = partial(_column_forward, module)
        elif isinstance(module, nn.Linear) and last in ("output", "down"):
            module.__dict__["forward"] = partial(_row_forward, module, leave, group)
        elif isinstance(module, nn.Embedding):
            module.__dict__["forward"] = partial(_embedding_forward, module, group)
        if module is model.head or last in ("attention", "cross_attention", "feed_forward"):
            module.register_forward_pre_hook(partial(_enter_hook, enter, group))
        _distribute(module, name, mesh)
    model.tie()
    if sequence_parallel:
        for stack in (model.encoder, model.decoder):
            if stack is not None and stack.positions is not None:
                stack.positions.register_forward_hook(partial(_output_hook, OwnSequence, group))
    if model.encoder is not None and model.encoder.norm is not None:
        # All cross-attentions read the encoder's output; entering once saves them a sum each.
        model.encoder.norm.register_forward_hook(partial(_output_hook, enter, group))


def _distribute(module: nn.Module, prefix: str, mesh: DeviceMesh) -> None:
    """Make DTensors of the parameters of ``module`` that tensor parallelism cuts."""
    # Imported here so that runs without tensor parallelism do not wait for it.
    from torch.distributed.tensor import Shard, distribute_tensor

    for name, parameter in list(module.named_parameters(recurse=False)):
        dimension = cut_dimension(f"{prefix}.{name}")
        if dimension is not None:
            whole = distribute_tensor(parameter, mesh, [Shard(dimension)], src_data_rank=None)
            module.register_parameter(name, nn.Parameter(whole))


def _enter_hook(
    function: type[torch.autograd.Function], group: dist.ProcessGroup, module: nn.Module, args: tuple[Any, ...]
) -> tuple[Any, ...]:
    return (function.apply(args[0], group), *args[1:])


def _output_hook(
    function: type[torch.autograd.Function], group: dist.ProcessGroup, module: nn.Module, args: tuple[Any, ...], out: Tensor
) -> Any:
    return function.apply(out, group)


def sequence_names(model: Transformer) -> Iterator[str]:
    """Parameters that see only this rank's positions under sequence parallelism, so that their gradients are partial sums."""
    for name, _ in model.named_parameters():
        if "norm." in name or (name.endswith(".bias") and (".output." in name or ".down." in name)):
            yield name


def use_leaves(model: nn.Module, leaves: dict[int, Tensor]) -> None:
    """Let modules compute on these plain tensors; ``leaves`` is keyed by the ``id`` of the parameter that each stands for."""
    for module in model.modules():
        found = {
            name: leaves[id(parameter)]
            for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
            if id(parameter) in leaves
        }
        if any(is_distributed(parameter) for parameter in module.parameters(recurse=False)):
            module.__dict__["local_parts"] = found
