"""Times what sharded data parallelism costs beside its messages: the hooks of a unit."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from trimtab.inventory import ProbeKernel
from workers.probe.collectives import Ring, sample_collective

NUM_RUNS = 12
NUM_UNITS = 4
WIDTH = 8


def sample_units(ring: Ring) -> list[float]:
    """Seconds of one fully sharded unit, forward and backward, beyond its modules and its three smallest collectives."""
    mesh = _mesh(ring)
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


def _mesh(ring: Ring) -> DeviceMesh:
    return DeviceMesh.from_group(ring.group, ring.device.type, mesh_dim_names=("probe",))


def _runs(forward: Callable[[], Tensor], device: torch.device) -> list[float]:
    out = []
    for index in range(NUM_RUNS + 2):
        started = time.perf_counter()
        forward().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if index >= 2:
            out.append(time.perf_counter() - started)
    return out
