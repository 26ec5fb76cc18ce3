"""Summed cross-entropy of next-token logits, whole or split by vocabulary over tensor-parallel ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from workers.training.batch import IGNORED

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Logits [B, S, V] (or this rank's columns of it) and targets [B, S] to the summed loss, in at least float32."""


def summed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum over the targets of -log softmax(logits)[target]."""
    wide = logits if logits.dtype is torch.float64 else logits.float()
    return F.cross_entropy(wide.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")


class SplitVocabularyLoss(torch.autograd.Function):
    """The same over logits whose columns ``first .. first + V/t`` are here and the rest on the other ranks of ``group``.

    Each rank sends three numbers per position instead of its logits: the maximum, the sum of exponentials, the target's logit
    (arXiv 1909.08053, section 3). All ranks get the same loss.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, first: int, group: dist.ProcessGroup) -> Tensor:
        """``logits`` [N, columns], ``targets`` [N]."""
        highest = logits.amax(dim=-1) if logits.shape[1] else logits.new_full((logits.shape[0],), -torch.inf)
        dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=group)
        shifted = logits - highest[:, None]
        column = targets - first
        mine = (column >= 0) & (column < logits.shape[1]) & (targets != IGNORED)
        rows = mine.nonzero(as_tuple=True)[0]
        columns = column[rows]
        sums = logits.new_zeros(2, logits.shape[0])
        sums[1, rows] = shifted[rows, columns]
        exponentials = shifted.exp_()
        torch.sum(exponentials, dim=-1, out=sums[0])
        dist.all_reduce(sums, group=group)
        counted = targets != IGNORED
        ctx.save_for_backward(exponentials, sums[0], rows, columns, counted)
        return torch.where(counted, sums[0].log() - sums[1], 0.0).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """Softmax less the one-hot target, at the positions that count."""
        exponentials, sums, rows, columns, counted = ctx.saved_tensors
        scale = torch.where(counted, grads[0], 0.0)
        gradient = exponentials * (scale / sums)[:, None]
        gradient[rows, columns] -= scale[rows]
        return gradient, None, None, None


def split_vocabulary_loss(first: int, group: dist.ProcessGroup) -> LossFunction:
    """The loss over this rank's columns of the logits, which begin at ``first``."""

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        wide = logits if logits.dtype is torch.float64 else logits.float()
        total: Tensor = SplitVocabularyLoss.apply(wide.flatten(0, 1), targets.flatten(), first, group)
        return total

    return loss
