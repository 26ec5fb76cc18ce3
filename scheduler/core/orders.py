"""Builds the order of an attempt: everything that its agents need, from rows, inventory and a few places."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from scheduler.core.decide import stall_after_s
from scheduler.core.policy import Policy
from scheduler.core.recheck import find_device
from trimtab.ids import AttemptRef
from trimtab.inventory import DeviceKind, Inventory
from trimtab.job import Attempt, DeviceRef, Job
from trimtab.jobspec import JobKind
from trimtab.orders import CheckpointNote, RankSlot, RunOrder
from trimtab.plan import Candidate

TRAIN_MODULE = "workers.training.main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where an attempt finds things, and its secret. ``runtime_python`` runs our training worker with ``runtime_environment``."""

    attempt_dir: str
    checkpoint_dir: str
    address: str
    credential: str
    runtime_python: str
    runtime_environment: Mapping[str, str] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)


def credential_for(key: bytes, attempt: AttemptRef) -> str:
    """The secret of an attempt's agents: HMAC-SHA-256 of its name under the control plane's key, so it need not be stored."""
    return hmac.new(key, f"trimtab agent credential {attempt}".encode(), hashlib.sha256).hexdigest()


def credential_digest(credential: str) -> str:
    """What the attempt's row keeps of the secret."""
    return hashlib.sha256(credential.encode()).hexdigest()


def credential_matches(attempt: Attempt, credential: str) -> bool:
    """Is this the secret of that attempt? Compared in constant time."""
    return hmac.compare_digest(attempt.credential_digest, credential_digest(credential))


def slots_for(job: Job, attempt: Attempt, inventory: Inventory) -> tuple[RankSlot, ...]:
    """One slot per device, in rank order. A command with ``ranks_per_node`` shares the devices of a node out among its ranks, in
    equal contiguous parts, so several slots may carry one rank. Raises ValueError where the parts cannot be equal.
    """
    by_node: dict[str, list[DeviceRef]] = {}
    for device in attempt.devices:
        by_node.setdefault(device.node_id, []).append(device)
    slots: list[RankSlot] = []
    first_rank = 0
    for devices in by_node.values():
        num_ranks = _ranks_on(job, len(devices))
        for position, device in enumerate(devices):
            local_rank = position * num_ranks // len(devices)
            slots.append(_slot(inventory, device, first_rank + local_rank, local_rank))
        first_rank += num_ranks
    if job.spec.kind is JobKind.TRAIN:
        slots = [_slot(inventory, device, rank, _local(attempt, rank)) for rank, device in enumerate(attempt.devices)]
    return tuple(slots)


def _ranks_on(job: Job, num_devices: int) -> int:
    wanted = job.spec.command.ranks_per_node if job.spec.command is not None else None
    if wanted is None:
        return num_devices
    if wanted < 1 or num_devices % wanted:
        raise ValueError(f"command.ranks_per_node {wanted} does not divide the {num_devices} devices of a node")
    return wanted


def _local(attempt: Attempt, rank: int) -> int:
    node = attempt.devices[rank].node_id
    return sum(device.node_id == node for device in attempt.devices[:rank])


def _slot(inventory: Inventory, ref: DeviceRef, rank: int, local_rank: int) -> RankSlot:
    device = find_device(inventory, ref)
    if device is None:
        raise ValueError(f"device {ref.key()} is not in the inventory")
    kind: DeviceKind = inventory.device_type(inventory.pool(ref.pool_id).device_type).kind
    return RankSlot(rank=rank, local_rank=local_rank, device=ref, kind=kind, cores=device.cores)


def build_order(
    job: Job,
    attempt: Attempt,
    *,
    inventory: Inventory,
    places: Places,
    resume_from: CheckpointNote | None,
    candidate: Candidate | None = None,
) -> RunOrder:
    """The order of one attempt. ``candidate`` is what the plan predicted for it. Raises ValueError for a device that is gone."""
    spec = job.spec
    if spec.command is not None:
        argv, working_dir, environment = spec.command.argv, spec.command.working_dir, dict(spec.command.environment)
    else:
        argv = (places.runtime_python, "-m", TRAIN_MODULE)
        working_dir, environment = places.attempt_dir, dict(places.runtime_environment)
    step_s = candidate.step_s if candidate is not None and spec.kind is JobKind.TRAIN else None
    return RunOrder(
        attempt=attempt.ref,
        job_id=job.id,
        spec=spec,
        strategy=attempt.strategy,
        argv=argv,
        working_dir=working_dir,
        environment=environment,
        slots=slots_for(job, attempt, inventory),
        attempt_dir=places.attempt_dir,
        checkpoint_dir=places.checkpoint_dir,
        address=places.address,
        credential=places.credential,
        grace_s=spec.grace_s,
        predicted_step_s=step_s,
        predicted_memory=candidate.memory if candidate is not None else (),
        stall_after_s=stall_after_s(places.policy, step_s.value if step_s is not None else None),
        resume_from=resume_from.path if resume_from is not None else None,
    )
