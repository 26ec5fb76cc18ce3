"""The ranks of one run: rendezvous, their place in the mesh, and the sums that they form together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from trimtab.inventory import DeviceKind
from trimtab.orders import RunOrder
from trimtab.strategy import Strategy
from workers.host_memory import keep_freed_memory

AXES = ("pp", "dp", "fsdp", "tp")
"""Mesh dimensions from the outside in; the rank order of ``trimtab.strategy``."""
RENDEZVOUS_FILE = "rendezvous"
TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankInfo:
    """This process among the ranks of its run."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Index of a rank along each axis of a strategy."""

    pp: int = 0
    dp: int = 0
    fsdp: int = 0
    tp: int = 0

    @classmethod
    def of(cls, strategy: Strategy, rank: int) -> Place:
        """Where ``rank`` stands: tp varies fastest, then fsdp, dp and pp."""
        rank, tp = divmod(rank, strategy.tp)
        rank, fsdp = divmod(rank, strategy.fsdp)
        pp, dp = divmod(rank, strategy.dp)
        return cls(pp=pp, dp=dp, fsdp=fsdp, tp=tp)


def initialise(order: RunOrder, environment: Mapping[str, str] | None = None) -> RankInfo:
    """Join the other ranks of ``order`` as the environment says (torchrun's variables) and choose this rank's device.

    Ranks of one node meet through a file in the attempt's folder, so no port can be taken by somebody else; several nodes meet at
    MASTER_ADDR and MASTER_PORT. gloo on CPUs, NCCL (with gloo beside it for host tensors) on NVIDIA devices.
    """
    variables = os.environ if environment is None else environment
    rank, world_size = int(variables.get("RANK", "0")), int(variables.get("WORLD_SIZE", "1"))
    local_rank = int(variables.get("LOCAL_RANK", str(rank)))
    kind = next(slot.kind for slot in order.slots if slot.rank == rank)
    one_node = world_size == int(variables.get("LOCAL_WORLD_SIZE", str(world_size)))
    store_path = Path(order.attempt_dir) / RENDEZVOUS_FILE if one_node else None
    return join(rank=rank, local_rank=local_rank, world_size=world_size, kind=kind, store_path=store_path)


def join(*, rank: int, local_rank: int, world_size: int, kind: DeviceKind, store_path: Path | None) -> RankInfo:
    """Make this process a rank: its device, how its host memory is kept, and the process group of ``world_size`` ranks.

    ``store_path`` None meets at MASTER_ADDR and MASTER_PORT. A single rank needs no process group and gets none.
    """
    keep_freed_memory()
    device = torch.device("cpu")
    if kind is DeviceKind.GPU:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        index = 0 if visible and "," not in visible else local_rank
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    if world_size > 1:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        where = "env://" if store_path is None else f"file://{store_path}"
        device_id = device if device.type == "cuda" else None
        dist.init_process_group(
            backend, init_method=where, rank=rank, world_size=world_size, timeout=TIMEOUT, device_id=device_id
        )
    return RankInfo(rank=rank, local_rank=local_rank, world_size=world_size, device=device)


def leave() -> None:
    """End the process group where there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def build_mesh(strategy: Strategy, device: torch.device) -> DeviceMesh | None:
    """The mesh of pp x dp x fsdp x tp ranks; None for a single rank. Raises ValueError where the world has another size."""
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    if world_size != strategy.world_size:
        raise ValueError(f"the strategy '{strategy.label()}' has {strategy.world_size} ranks, but {world_size} are running")
    if world_size == 1:
        return None
    shape = (strategy.pp, strategy.dp, strategy.fsdp, strategy.tp)
    return init_device_mesh(device.type, shape, mesh_dim_names=AXES)


def all_sum(tensor: torch.Tensor) -> torch.Tensor:
    """Sum ``tensor`` in place over all ranks."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor
