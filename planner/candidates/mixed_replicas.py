"""Whole replicas on each group of unlike devices: how the samples of a step are shared so that all are done at the same time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.strategies.table import BoolArray, IntArray
from planner.training.places import Array

_HALVINGS = 56


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Paces:
    """P choices for each of G groups: seconds of ``m`` micro-batches are ``start_s + m x each_s``; shape [P, G].

    Every one of ``replicas`` does micro-batches of ``micro_batch`` samples.
    """

    start_s: Array
    each_s: Array
    replicas: IntArray
    micro_batch: IntArray

    def done(self, micro: Array) -> Array:
        """Seconds until the slowest group is done, [P]."""
        return np.asarray((self.start_s + micro * self.each_s).max(axis=1))


def fewest_micro(paces: Paces, global_batch: int) -> tuple[IntArray, BoolArray]:
    """Micro-batches of the busiest replica of each group for the earliest end, [P, G], and where there is any, [P].

    Bisects the time by which all are done; what a group can do by then are whole micro-batches, at least one of each replica.
    """
    size = paces.replicas * paces.micro_batch

    def enough(end: Array) -> tuple[IntArray, BoolArray]:
        micro = np.floor((end[:, None] - paces.start_s) / paces.each_s + 1e-9)
        micro = np.minimum(micro, float(global_batch)).astype(np.int64)
        return micro, (micro >= 1).all(axis=1) & ((size * micro).sum(axis=1) >= global_batch)

    low = np.zeros(len(size))
    high = (paces.start_s + (global_batch / size + 2.0) * paces.each_s).max(axis=1, initial=0.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        fine = enough(middle)[1]
        low, high = np.where(fine, low, middle), np.where(fine, middle, high)
    micro, fine = enough(high)
    smallest, largest = paces.micro_batch.min(axis=1), paces.micro_batch.max(axis=1)
    fits = (size.sum(axis=1) <= global_batch) & (global_batch % smallest == 0) & (largest % smallest == 0)
    return micro, fine & fits


def shares_of(replicas: IntArray, micro_batch: IntArray, micro: IntArray, *, global_batch: int) -> IntArray | None:
    """Micro-batches of each group in all, [G], at least one of each replica; None where none add up.

    Groups with large micro-batches take theirs first, at most ``micro`` of each replica; the smallest make up what is left, which
    can be more than ``micro`` where micro-batches of several sizes do not come out even.
    """
    order = sorted(range(len(replicas)), key=lambda g: (-int(micro_batch[g]), g))
    share, left = np.zeros(len(replicas), dtype=np.int64), global_batch
    for place, g in enumerate(order):
        later = order[place + 1 :]
        kept = sum(int(replicas[o] * micro_batch[o]) for o in later)
        most = (left - kept) // int(micro_batch[g])
        share[g] = min(int(replicas[g] * micro[g]), most) if later else most
        left -= int(share[g]) * int(micro_batch[g])
    return share if left == 0 and (share >= replicas).all() else None
