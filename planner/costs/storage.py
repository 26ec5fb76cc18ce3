"""Time of what a run reads and writes: checkpoints, their reading at a restart, samples.

``checkpoint = bytes of the state / (nodes x write bandwidth of one)``, and likewise for reading. One node uses its own disks;
several use storage on the network, which all can reach; each takes the other where one is not known. Where nothing is known of
the storage, the bandwidth of one writing process is assumed. A node reads the samples of its data ranks ahead of the steps, so
input costs time only where it takes longer than a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.costs.constants import CHECKPOINT_BYTES_PER_S, TOKEN_BYTES
from trimtab.estimate import Constant, Origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.costs.types import ConstantLog, DeviceContext
    from trimtab.plan import RankMemory
    from trimtab.strategy import Strategy
    from trimtab.workload import TrainWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageTimes:
    """Seconds of one checkpoint, of reading it at a restart, and of the input of one step (0 where storage is not known).

    ``source`` says where the bandwidth of writing comes from.
    """

    source: str
    checkpoint_s: float
    restart_read_s: float
    input_s: float


def storage_times(
    train: TrainWorkload, strategy: Strategy, context: DeviceContext, *, memory: Sequence[RankMemory], log: ConstantLog
) -> StorageTimes:
    """What the run of a strategy spends on its storage; the bandwidths that were used are noted."""
    nodes = max(1, context.shape.num_nodes)
    num_bytes = whole_state_bytes(strategy, memory)
    write, read = _bandwidth("write", context, nodes), _bandwidth("read", context, nodes)
    write, usual_read = write or CHECKPOINT_BYTES_PER_S.constant(), CHECKPOINT_BYTES_PER_S.constant()
    input_s = 0.0
    if read is not None:
        readers = min(nodes, strategy.data_ranks)
        input_s = train.tokens_per_step * log.note(TOKEN_BYTES.constant()) / (readers * read.value)
    return StorageTimes(
        source=f"{write.origin}: {write.source}" if not write.source.startswith(write.origin) else write.source,
        checkpoint_s=num_bytes / (nodes * log.note(write)),
        restart_read_s=num_bytes / (nodes * log.note(read or usual_read)),
        input_s=input_s,
    )


def whole_state_bytes(strategy: Strategy, memory: Sequence[RankMemory]) -> float:
    """Bytes of parameters and optimizer of the whole model, each once: replicas write nothing that others have written."""
    shards = strategy.tp * (strategy.fsdp if strategy.zero_stage >= 1 else 1)
    return shards * sum(entry.parameters_bytes + entry.optimizer_bytes for entry in memory)


def _bandwidth(way: str, context: DeviceContext, nodes: int) -> Constant | None:
    """One node's bandwidth to what is used, in bytes/s; what the pool says goes before what its device type says."""
    for place in ("local", "network") if nodes == 1 else ("network", "local"):
        name = f"{place}_{way}"
        what = f"{context.device_type.name} node, {'own disks' if place == 'local' else 'storage on the network'}, {way}"
        for storage in (context.pool.storage, context.device_type.storage):
            value = None if storage is None else getattr(storage, f"{name}_bytes_per_s")
            if storage is None or value is None:
                continue
            source = ", ".join(part for part in (storage.source, storage.retrieved_on) if part)
            if storage is context.device_type.storage:
                source = context.device_type.origins.get(f"storage_{name}_gb_per_s", source)
            return Constant(name=what, value=value, origin=_origin(source), source=source)
    return None


def _origin(source: str) -> Origin:
    if source.startswith("assumed"):
        return Origin.ASSUMED
    return Origin.MEASURED if "measured" in source else Origin.PUBLISHED
