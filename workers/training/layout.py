"""Which part of each parameter a rank holds.

A parameter is cut by tensor parallelism first (along one dimension), then by sharded data parallelism (along dimension 0 of what
is left), both in torch's chunks: equal parts of ceil(size / parts), the last ones shorter or empty. So each rank's part is one
box of the whole, given by a half-open range per dimension; initial values, checkpoints and loading need nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The part of one parameter that this rank holds.

    ``shape`` is the whole's, ``box`` this rank's ranges. ``primary`` holds for exactly one of the ranks that hold the same box:
    that one counts it (norms) and writes it (checkpoints).
    """

    shape: tuple[int, ...]
    box: Box
    primary: bool = True

    def part(self, whole: Tensor) -> Tensor:
        """This rank's part of ``whole``, a view."""
        if tuple(whole.shape) != self.shape:
            raise ValueError(f"expected the whole tensor of shape {self.shape}, found {tuple(whole.shape)}")
        for dimension, (start, stop) in enumerate(self.box):
            whole = whole.narrow(dimension, start, stop - start)
        return whole

    @property
    def local_shape(self) -> tuple[int, ...]:
        """Shape of this rank's part."""
        return tuple(stop - start for start, stop in self.box)


def chunk(size: int, num_parts: int, index: int) -> tuple[int, int]:
    """The range of part ``index`` when ``size`` is cut as ``torch.chunk`` cuts it."""
    width = -(-size // num_parts)
    return min(index * width, size), min((index + 1) * width, size)


def box_of(shape: tuple[int, ...], *, tensor: tuple[int, int, int] | None, sharded: tuple[int, int] | None) -> Box:
    """The box of a rank: ``tensor`` is (dimension, degree, index) of the tensor-parallel cut, ``sharded`` (degree, index) of the
    other.
    """
    ranges = [(0, size) for size in shape]
    if tensor is not None:
        dimension, degree, index = tensor
        ranges[dimension] = chunk(shape[dimension], degree, index)
    if sharded is not None:
        start, stop = ranges[0]
        first, last = chunk(stop - start, *sharded)
        ranges[0] = (start + first, start + last)
    return tuple(ranges)
