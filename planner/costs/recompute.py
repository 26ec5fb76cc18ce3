"""What recompute keeps and what it runs again in the backward pass of a layer.

torch's non-reentrant checkpoint stops computing again as soon as everything that the backward pass needs is there: the last
operation that saves a tensor, and what follows it, is never run twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.inventory import ProbeKernel
from trimtab.strategy import Recompute

if TYPE_CHECKING:
    from planner.costs.types import Operation, Work

KEPT_KERNELS = frozenset({ProbeKernel.MATMUL, ProbeKernel.ATTENTION_FORWARD})
"""Kernels whose outputs selective recompute keeps."""


def again(operations: tuple[Operation, ...], recompute: Recompute) -> tuple[Operation, ...]:
    """The operations of a layer of which something runs again."""
    if recompute is Recompute.NONE:
        return ()
    last = max((index for index, operation in enumerate(operations) if operation.saved_bytes), default=0)
    return operations[:last]


def works_again(operation: Operation, recompute: Recompute) -> tuple[Work, ...]:
    """The kernels of one of these operations that run again."""
    if recompute is Recompute.FULL:
        return operation.forward
    return tuple(work for work in operation.forward if work.kernel not in KEPT_KERNELS)


def exchanges_again(operation: Operation, recompute: Recompute) -> bool:
    """Whether the operation's collectives run again (they are no kernels that could be kept)."""
    return recompute is not Recompute.NONE and bool(operation.forward_exchanges)


def saved_bytes(operations: tuple[Operation, ...], recompute: Recompute, *, input_bytes: float) -> float:
    """What one layer keeps from its forward to its backward pass."""
    if recompute is Recompute.FULL:
        return input_bytes
    if recompute is Recompute.SELECTIVE:
        return input_bytes + sum(operation.kept_bytes for operation in operations)
    return sum(operation.saved_bytes for operation in operations)


def restored_bytes(operations: tuple[Operation, ...], recompute: Recompute) -> float:
    """What exists more, while the layer's backward runs, because it was computed again."""
    if recompute is Recompute.NONE:
        return 0.0
    everything = sum(operation.saved_bytes for operation in operations)
    if recompute is Recompute.FULL:
        return everything
    return max(0.0, everything - sum(operation.kept_bytes for operation in operations))
