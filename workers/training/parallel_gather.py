"""Makes the parameters whole at rank 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from workers.training.layout import Layout
from workers.training.parallel_held import Held


def gather(held: Mapping[str, Held], layouts: Sequence[Mapping[str, Layout]]) -> dict[str, Tensor] | None:
    """All parameters whole on the CPU at rank 0, None at the others; ``layouts`` are those of every rank.

    Each box travels once, from its primary holder, all boxes of a rank in one message.
    """
    mine = {name: each.local.detach() for name, each in held.items() if each.layout.primary}
    rank = dist.get_rank() if dist.is_initialized() else 0
    if rank != 0:
        if mine:
            dist.send(torch.cat([part.flatten() for part in mine.values()]), dst=0)
        return None
    whole: dict[str, Tensor] = {}
    like = next(iter(held.values())).local
    for holder, theirs in enumerate(layouts):
        boxes = {name: layout for name, layout in theirs.items() if layout.primary}
        parts = mine if holder == 0 else _receive(boxes, holder, like=like)
        for name, layout in boxes.items():
            target = whole.setdefault(name, torch.empty(layout.shape, dtype=like.dtype))
            layout.part(target).copy_(parts[name])
    return whole


def _receive(boxes: Mapping[str, Layout], holder: int, *, like: Tensor) -> dict[str, Tensor]:
    if not boxes:
        return {}
    sizes = [torch.Size(layout.local_shape).numel() for layout in boxes.values()]
    flat = torch.empty(sum(sizes), dtype=like.dtype, device=like.device)
    dist.recv(flat, src=holder)
    return {name: part.view(layout.local_shape) for (name, layout), part in zip(boxes.items(), flat.split(sizes), strict=True)}
