"""Small things that all ranks of a run say to each other beside the training itself: flags, figures and short texts.

Everything travels as host tensors (gloo); a single rank talks to nobody. All ranks call the same methods in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


class Peers:
    """The ranks of the run, seen from one of them."""

    def __init__(self, *, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which decides and writes."""
        return self.rank == 0

    def highest(self, values: Sequence[int]) -> list[int]:
        """Element by element the highest value of any rank."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return [int(value) for value in tensor.tolist()]

    def gather(self, values: Sequence[int]) -> list[list[int]]:
        """The values of every rank, by rank, at every rank."""
        if self.world_size == 1:
            return [list(values)]
        mine = torch.tensor(values, dtype=torch.int64)
        out = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(out, mine)
        return [[int(value) for value in tensor.tolist()] for tensor in out]

    def gather_texts(self, text: str) -> list[str]:
        """The text of every rank, by rank, at every rank."""
        if self.world_size == 1:
            return [text]
        mine = _bytes(text)
        lengths = [length for (length,) in self.gather([len(mine)])]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(mine)] = mine
        out = [torch.empty_like(padded) for _ in range(self.world_size)]
        dist.all_gather(out, padded)
        return [_text(tensor[:length]) for tensor, length in zip(out, lengths, strict=True)]

    def broadcast_text(self, text: str) -> str:
        """Rank 0's text, at every rank."""
        if self.world_size == 1:
            return text
        mine = _bytes(text)
        length = torch.tensor([len(mine)], dtype=torch.int64)
        dist.broadcast(length, src=0)
        data = mine if self.first else torch.empty(int(length.item()), dtype=torch.uint8)
        dist.broadcast(data, src=0)
        return _text(data)

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.world_size > 1:
            self.highest([0])


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8)


def _text(data: Tensor) -> str:
    return bytes(data.tolist()).decode().strip(" ")
