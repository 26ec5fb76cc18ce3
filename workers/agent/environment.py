"""The environment of a rank: torchrun's variables, the devices, and Trimtab's own. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from trimtab.inventory import DeviceKind
from trimtab.jobspec import JobKind
from trimtab.orders import (
    ENV_ATTEMPT,
    ENV_ATTEMPT_DIR,
    ENV_CHECKPOINT_DIR,
    ENV_CONTROL_FD,
    ENV_ORDER_FILE,
    ENV_PLAN_FILE,
    ENV_REPORT_FD,
    ENV_RESUME_FROM,
    RankSlot,
    RunOrder,
)

OWN_NAMES = frozenset(
    {
        ENV_ATTEMPT,
        ENV_ATTEMPT_DIR,
        ENV_CHECKPOINT_DIR,
        ENV_CONTROL_FD,
        ENV_ORDER_FILE,
        ENV_PLAN_FILE,
        ENV_REPORT_FD,
        ENV_RESUME_FROM,
    }
)
"""What the agent says to its ranks: never passed on from what it was started with itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlace:
    """Everything of one rank that differs between ranks; ``slots`` are its devices (several for a launcher)."""

    rank: int
    local_rank: int
    slots: tuple[RankSlot, ...]

    @property
    def cores(self) -> tuple[int, ...]:
        """Processor cores of its CPU devices."""
        return tuple(sorted({core for slot in self.slots for core in slot.cores}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendezvous:
    """Where the ranks of a gang meet, and the files that tell them of their run."""

    address: str
    port: int
    kernel_path: str
    order_file: str
    plan_file: str


def places(order: RunOrder) -> tuple[RankPlace, ...]:
    """The ranks of an order, ascending. Slots of the same rank are the devices of one process."""
    by_rank: dict[int, list[RankSlot]] = {}
    for slot in order.slots:
        by_rank.setdefault(slot.rank, []).append(slot)
    return tuple(
        RankPlace(rank=rank, local_rank=slots[0].local_rank, slots=tuple(slots)) for rank, slots in sorted(by_rank.items())
    )


def rank_environment(
    base: Mapping[str, str], order: RunOrder, place: RankPlace, *, num_ranks: int, meet: Rendezvous
) -> dict[str, str]:
    """The environment of one rank; later lines win: the agent's own, the order's, then what the run needs."""
    own = {name: value for name, value in base.items() if name not in OWN_NAMES}
    environment = {**own, "PYTHONUNBUFFERED": "1", **order.environment}
    environment.update(_torchrun(order, place, num_ranks=num_ranks, meet=meet))
    environment.update(_devices(order, place))
    threads = max(1, len(place.cores) or (os.cpu_count() or 1) // num_ranks)
    if order.spec.kind is JobKind.TRAIN or "OMP_NUM_THREADS" not in order.environment:
        environment["OMP_NUM_THREADS"] = str(threads)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (meet.kernel_path, environment.get("PYTHONPATH"))))
    environment.update(
        {
            ENV_ATTEMPT: str(order.attempt),
            ENV_ATTEMPT_DIR: order.attempt_dir,
            ENV_ORDER_FILE: meet.order_file,
            ENV_PLAN_FILE: meet.plan_file,
            ENV_CHECKPOINT_DIR: order.checkpoint_dir,
        }
    )
    if order.resume_from is not None:
        environment[ENV_RESUME_FROM] = order.resume_from
    return environment


def _torchrun(order: RunOrder, place: RankPlace, *, num_ranks: int, meet: Rendezvous) -> dict[str, str]:
    """The names that torch.distributed.run sets for a worker, for a gang on one node."""
    return {
        "RANK": str(place.rank),
        "LOCAL_RANK": str(place.local_rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "NODE_RANK": "0",
        "ROLE_NAME": "default",
        "ROLE_RANK": str(place.rank),
        "ROLE_WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": meet.address,
        "MASTER_PORT": str(meet.port),
        "TORCHELASTIC_RUN_ID": str(order.attempt.unit_id),
        "TORCHELASTIC_RESTART_COUNT": str(order.attempt.number - 1),
        "TORCHELASTIC_MAX_RESTARTS": str(order.spec.retry.max_failures),
        "TORCHELASTIC_USE_AGENT_STORE": "False",
    }


def _devices(order: RunOrder, place: RankPlace) -> dict[str, str]:
    """Which GPUs the process sees.

    With one device per rank every rank sees all of them and picks by LOCAL_RANK, as under torchrun; one with several devices sees
    only its own. A rank without a GPU sees none, so that it cannot take one that is somebody else's.
    """
    slots = place.slots if len(place.slots) > 1 else sorted(order.slots, key=lambda slot: slot.local_rank)
    visible = [str(slot.device.index) for slot in slots if slot.kind is DeviceKind.GPU]
    return {"CUDA_VISIBLE_DEVICES": ",".join(visible), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
