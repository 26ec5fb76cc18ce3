"""Times collectives between the ranks of a process group, each as the training worker calls it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from trimtab.inventory import ProbeKernel

MIN_RUNS, MAX_RUNS = 6, 30
Run = Callable[[], object]

KERNELS = (
    ProbeKernel.ALL_REDUCE,
    ProbeKernel.ALL_GATHER,
    ProbeKernel.REDUCE_SCATTER,
    ProbeKernel.SEND_RECEIVE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """The ranks that take part. Every process of the world must build it, also those that are left out."""

    ranks: tuple[int, ...]
    group: dist.ProcessGroup
    device: torch.device

    @property
    def own(self) -> int:
        """Place of this process in the ring."""
        return self.ranks.index(dist.get_rank())


def prepare_collective(kernel: ProbeKernel, num_bytes: int, ring: Ring) -> Run:
    """A callable that runs the collective once; ``num_bytes`` is the full (gathered) size in float32."""
    size = len(ring.ranks)
    elements = max(size, num_bytes // 4 // size * size)
    whole = torch.zeros(elements, device=ring.device)
    part = torch.zeros(elements // size, device=ring.device)
    if kernel is ProbeKernel.ALL_REDUCE:
        return lambda: dist.all_reduce(whole, group=ring.group)
    if kernel is ProbeKernel.ALL_GATHER:
        return lambda: dist.all_gather_into_tensor(whole, part, group=ring.group)
    if kernel is ProbeKernel.REDUCE_SCATTER:
        return lambda: dist.reduce_scatter_tensor(part, whole, group=ring.group)
    return _exchange(torch.zeros(max(1, num_bytes // 4), device=ring.device), ring)


def _exchange(message: torch.Tensor, ring: Ring) -> Run:
    """One message from the first rank to the second and one back: the pair takes twice the time of one."""
    own = ring.own
    if own > 1:
        return lambda: None
    peer = ring.ranks[1 - own]

    def run() -> None:
        forth = dist.P2POp(dist.isend if own == 0 else dist.irecv, message, peer, ring.group)
        back = dist.P2POp(dist.irecv if own == 0 else dist.isend, message, peer, ring.group)
        for operation in (forth, back):
            for work in dist.batch_isend_irecv([operation]):
                work.wait()

    return run


def sample_collective(kernel: ProbeKernel, num_bytes: int, ring: Ring, *, seconds: float) -> list[float]:
    """Seconds of single runs; every rank makes the same number of runs, which the first rank chooses."""
    run = prepare_collective(kernel, num_bytes, ring)
    each = 2.0 if kernel is ProbeKernel.SEND_RECEIVE else 1.0
    run()
    _wait(ring.device)
    started = time.perf_counter()
    run()
    _wait(ring.device)
    once = time.perf_counter() - started
    count = torch.tensor([max(MIN_RUNS, min(MAX_RUNS, int(seconds / max(once, 1e-6))))], device=ring.device)
    dist.broadcast(count, src=ring.ranks[0], group=ring.group)
    out = []
    for _ in range(int(count.item())):
        started = time.perf_counter()
        run()
        _wait(ring.device)
        out.append((time.perf_counter() - started) / each)
    return out


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
