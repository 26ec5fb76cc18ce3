"""One rank of a probe: a real process, pinned as a training rank would be, that runs every point and prints what it timed.

Started by ``workers.probe.ranks``. All ranks walk through the same points: rank 0 runs each alone while the others wait, then,
where that is asked for, all run it at once, so that a slow spell of the machine hits both figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterable
from statistics import fmean
from typing import TextIO

import torch
import torch.distributed as dist

from trimtab.inventory import DeviceKind, ProbeKernel
from workers.host_memory import keep_freed_memory
from workers.probe.collectives import KERNELS, Ring, sample_collective
from workers.probe.kernels import calls_autograd, calls_per_run, gradient_call, prepare
from workers.probe.overheads import sample_checkpoint, sample_units
from workers.probe.points import Grid, Point, busy_points, grid, kernel_points
from workers.probe.timing import Slot, sample

PASSES = 5
TOUCHED_BYTES = 256 << 20
KERNELS_SHARE = 0.8
"""About this share of a pass goes by before the collectives."""
MIN_SHARE = 0.1
"""A backward kernel keeps at least this share of its time when the call of autograd is taken off."""


class ProbeRank:
    """The measuring side: walks the points and writes samples as JSON lines."""

    def __init__(self, *, device: torch.device, sizes: Grid, passes: int, slot: Slot, out: TextIO) -> None:
        self.device = device
        self.sizes = sizes
        self.passes = passes
        self.slot = slot
        self.out = out
        self.rank = dist.get_rank()
        self.num_ranks = dist.get_world_size()
        self._gradient_call_s = 0.0

    def walk(self) -> None:
        """Everything, once per pass, so that each point is timed at moments spread over the whole probe."""
        points = kernel_points(self.sizes)
        busy = busy_points(self.sizes) if self.num_ranks > 1 else frozenset()
        rings = self._rings() if self.num_ranks > 1 else []
        for turn in range(self.passes):
            self._gradient_call_s = self._gradient_call()
            self._overheads()
            for index, point in enumerate(points):
                self._kernel(point, num_ranks=1)
                if point in busy:
                    dist.barrier()
                    self._kernel(point, num_ranks=self.num_ranks)
                    dist.barrier()
                self._progress((turn + KERNELS_SHARE * (index + 1) / len(points)) / self.passes)
            self._collectives(rings)
            self._progress((turn + 1) / self.passes)

    def _overheads(self) -> None:
        """What torch's checkpoint costs, on one rank."""
        if self.rank == 0:
            cost = sample_checkpoint(self.device)
            for code, seconds in enumerate((cost.layer, cost.operator, cost.sorting)):
                self.write(ProbeKernel.CHECKPOINT_LAUNCH, "fp32", (code,), num_ranks=1, seconds=seconds)
        dist.barrier()

    def _kernel(self, point: Point, *, num_ranks: int) -> None:
        if num_ranks == 1 and self.rank:
            return
        calls = calls_per_run(point.kernel)
        times = sample(prepare(point, self.device), self.device, self.slot)
        if calls_autograd(point):
            times = [max(seconds - self._gradient_call_s, seconds * MIN_SHARE) for seconds in times]
        times = [seconds / calls for seconds in times]
        self.write(point.kernel, str(point.precision), point.shape, num_ranks=num_ranks, seconds=times)

    def _gradient_call(self) -> float:
        """Mean seconds of the smallest call of autograd on this rank, now."""
        return fmean(sample(gradient_call(self.device), self.device, Slot(seconds=0.01, max_runs=60)))

    def _rings(self) -> list[Ring]:
        """Rings of 2, 4, 8 ... and all ranks."""
        counts = {self.num_ranks, *(1 << power for power in range(1, self.num_ranks.bit_length()))}
        return [self._ring(count) for count in sorted(counts) if count <= self.num_ranks]

    def _collectives(self, rings: list[Ring]) -> None:
        """All collectives in all sizes over each ring, and a sharded unit."""
        for ring in rings:
            for kernel, num_bytes in itertools.product(KERNELS, self.sizes.collective_bytes):
                if self.rank in ring.ranks:
                    times = sample_collective(kernel, num_bytes, ring, seconds=self.slot.seconds)
                    if not (kernel is ProbeKernel.SEND_RECEIVE and ring.own > 1):
                        self.write(kernel, "fp32", (num_bytes,), num_ranks=len(ring.ranks), seconds=times)
                dist.barrier()
            if self.rank in ring.ranks:
                self.write(ProbeKernel.UNIT_LAUNCH, "fp32", (), num_ranks=len(ring.ranks), seconds=sample_units(ring))
            dist.barrier()

    def _ring(self, count: int) -> Ring:
        ranks = tuple(range(count))
        group = dist.new_group(list(ranks))
        if not isinstance(group, dist.ProcessGroup):
            raise RuntimeError("torch made no process group")
        return Ring(ranks=ranks, group=group, device=self.device)

    def write(
        self, kernel: ProbeKernel, precision: str, shape: tuple[int, ...], *, num_ranks: int, seconds: Iterable[float]
    ) -> None:
        """One line of samples."""
        line = {
            "kernel": str(kernel),
            "precision": precision,
            "shape": list(shape),
            "num_ranks": num_ranks,
            "seconds": [float(f"{value:.6g}") for value in seconds],
        }
        self._line(line)

    def _progress(self, share: float) -> None:
        """How far the probe is; rank 0 speaks for all."""
        if self.rank == 0:
            self._line({"share": round(share, 4)})

    def _line(self, line: dict[str, object]) -> None:
        self.out.write(json.dumps(line) + "\n")
        self.out.flush()


def main(argv: list[str] | None = None) -> None:
    """Entry point of a rank; its place comes from torchrun's variables, its orders from the arguments."""
    parser = argparse.ArgumentParser(prog="python -m workers.probe.rank")
    parser.add_argument("--kind", type=DeviceKind, required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--started-at", type=float, required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(argv)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # torch's own prints must not mix with the samples
    device = torch.device("cpu")
    if keep_freed_memory():
        torch.ones(TOUCHED_BYTES // 4)  # pages that a step finds in place are not to be timed as new ones
    if options.kind is DeviceKind.GPU:
        device = torch.device("cuda", 0)
        torch.cuda.set_device(device)
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, init_method=f"file://{options.store}", rank=rank, world_size=world_size)
    slot = Slot(seconds=0.002 if options.quick else 0.006)
    sizes = grid(options.kind, quick=options.quick)
    probe = ProbeRank(device=device, sizes=sizes, passes=1 if options.quick else PASSES, slot=slot, out=out)
    dist.barrier()
    probe.write(ProbeKernel.RANK_START, "fp32", (), num_ranks=world_size, seconds=[time.time() - options.started_at])
    probe.walk()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
