"""Adds up gradients over replicas (dp), in buckets, while the backward pass of the last micro-batch still runs.

The same idea as torch's DistributedDataParallel (arXiv 2006.15704), which does not take parameters held as DTensors: a bucket
is sent when all its gradients are there, always in the same order at all ranks. The summed bucket becomes the gradients'
storage, so nothing is copied back. Earlier micro-batches communicate nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_BYTES = 25 * 2**20


@dataclass(slots=True)
class Bucket:
    """Parameters whose gradients travel together."""

    members: list[Tensor] = field(default_factory=list)
    num_bytes: int = 0
    num_missing: int = 0
    flat: Tensor | None = None
    work: dist.Work | None = None


class Replicas:
    """The gradient sum over the ranks of ``group`` for tensors that autograd fills (``bearers``)."""

    def __init__(self, bearers: Sequence[Tensor], group: dist.ProcessGroup, *, bucket_bytes: int = BUCKET_BYTES) -> None:
        self.group = group
        self.buckets = _fill_buckets(bearers, bucket_bytes)
        self._armed = False
        self._next = 0
        for bucket in self.buckets:
            for member in bucket.members:
                member.register_post_accumulate_grad_hook(self._hook_of(bucket))

    def arm(self) -> None:
        """The next backward pass is the last of the step: send buckets as they fill."""
        self._armed = True
        self._next = 0
        for bucket in self.buckets:
            bucket.num_missing = len(bucket.members)

    def finish(self) -> None:
        """Send what is left, wait, and put the sums in place."""
        if not self._armed:
            self.arm()
        while self._next < len(self.buckets):
            self._send_next()
        self._armed = False
        for bucket in self.buckets:
            assert bucket.work is not None
            assert bucket.flat is not None
            bucket.work.wait()
            offset = 0
            for member in bucket.members:
                member.grad = bucket.flat[offset : offset + member.numel()].view_as(member)
                offset += member.numel()
            bucket.work = bucket.flat = None

    def _hook_of(self, bucket: Bucket) -> object:
        def arrived(member: Tensor) -> None:
            if not self._armed:
                return
            bucket.num_missing -= 1
            while self._next < len(self.buckets) and self.buckets[self._next].num_missing == 0:
                self._send_next()

        return arrived

    def _send_next(self) -> None:
        bucket = self.buckets[self._next]
        self._next += 1
        found = [torch.zeros_like(member) if member.grad is None else member.grad for member in bucket.members]
        bucket.flat = torch.cat([gradient.flatten() for gradient in found])
        for member in bucket.members:
            member.grad = None
        bucket.work = dist.all_reduce(bucket.flat, group=self.group, async_op=True)


def _fill_buckets(bearers: Sequence[Tensor], bucket_bytes: int) -> list[Bucket]:
    """Last parameters first, as the backward pass reaches them."""
    buckets = [Bucket()]
    for bearer in reversed(bearers):
        num_bytes = bearer.numel() * bearer.element_size()
        if buckets[-1].members and buckets[-1].num_bytes + num_bytes > bucket_bytes:
            buckets.append(Bucket())
        buckets[-1].members.append(bearer)
        buckets[-1].num_bytes += num_bytes
    return buckets
