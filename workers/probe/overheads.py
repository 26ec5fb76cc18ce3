"""Times what frameworks cost beside kernels and messages: hooks of a sharded unit, torch's checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from trimtab.inventory import ProbeKernel
from workers.probe.collectives import Ring, sample_collective
from workers.probe.timing import stir

NUM_RUNS = 12
NUM_UNITS = 4
WIDTH = 8
SHORT_CHAIN, LONG_CHAIN = 4, 24


def sample_units(ring: Ring) -> list[float]:
    """Seconds of one fully sharded unit, forward and backward, beyond its modules and its three smallest collectives."""
    mesh = DeviceMesh.from_group(ring.group, ring.device.type, mesh_dim_names=("probe",))
    layers = [nn.Linear(WIDTH, WIDTH, bias=False, device=ring.device) for _ in range(NUM_UNITS)]
    plain = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False, device=ring.device) for _ in range(NUM_UNITS)))
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    model = nn.Sequential(*layers)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    x = torch.zeros(WIDTH, WIDTH, device=ring.device)
    ours = _runs(lambda: model(x).sum(), ring.device)
    theirs = _runs(lambda: plain(x).sum(), ring.device)
    gather = sorted(sample_collective(ProbeKernel.ALL_GATHER, WIDTH * WIDTH * 4, ring, seconds=0.01))
    scatter = sorted(sample_collective(ProbeKernel.REDUCE_SCATTER, WIDTH * WIDTH * 4, ring, seconds=0.01))
    messages = 2 * gather[len(gather) // 2] + scatter[len(scatter) // 2]
    return [max(0.0, (a - b) / NUM_UNITS - messages) for a, b in zip(ours, theirs, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointCost:
    """Seconds that torch's checkpoint costs beside kernels: of one layer, of each operator of it, and of each operator beside
    that where the operators are sorted into kept and computed again (selective).
    """

    layer: list[float]
    operator: list[float]
    sorting: list[float]


def sample_checkpoint(device: torch.device) -> CheckpointCost:
    """Times chains of small operators, each saving a tensor, plain and checkpointed; two lengths tell the parts apart."""
    short, long = _chain_overheads(SHORT_CHAIN, device), _chain_overheads(LONG_CHAIN, device)
    span = LONG_CHAIN - SHORT_CHAIN
    operator = [max(0.0, (b - a) / span) for a, b in zip(short[0], long[0], strict=True)]
    layer = [max(0.0, a - SHORT_CHAIN * each) for a, each in zip(short[0], operator, strict=True)]
    return CheckpointCost(layer=layer, operator=operator, sorting=[seconds / LONG_CHAIN for seconds in long[1]])


def _chain_overheads(length: int, device: torch.device) -> tuple[list[float], list[float]]:
    """(full checkpoint beyond forward, forward again and backward; selective beyond full), in seconds."""
    x = torch.zeros(WIDTH, WIDTH, device=device, requires_grad=True)

    def chain(value: Tensor) -> Tensor:
        for _ in range(length):
            value = value.sin()
        return value

    def policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        return CheckpointPolicy.PREFER_RECOMPUTE

    contexts = partial(create_selective_checkpoint_contexts, policy)
    plain = _runs(lambda: chain(x).sum(), device)
    full = _runs(lambda: checkpoint(chain, x, use_reentrant=False, preserve_rng_state=False).sum(), device)
    sorting = _runs(
        lambda: checkpoint(chain, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts).sum(), device
    )
    with torch.no_grad():
        once = _times(lambda: chain(x), device)
    beyond = [max(0.0, a - b - c) for a, b, c in zip(sorted(full), sorted(plain), sorted(once), strict=True)]
    return beyond, [max(0.0, a - b) for a, b in zip(sorted(sorting), sorted(full), strict=True)]


def _runs(forward: Callable[[], Tensor], device: torch.device) -> list[float]:
    """Seconds of forward and backward."""

    def both() -> None:
        forward().backward()

    return _times(both, device)


def _times(run: Callable[[], object], device: torch.device) -> list[float]:
    out = []
    for index in range(NUM_RUNS + 2):
        if device.type == "cpu":
            stir()
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if index >= 2:
            out.append(time.perf_counter() - started)
    return out
