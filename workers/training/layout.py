"""Which part of each parameter a rank holds: a pure function of model, strategy and rank.

A parameter is cut by tensor parallelism first (along one dimension), then by sharded data parallelism (along dimension 0 of
what is left), both in torch's chunks: equal parts of ceil(size / parts), the last ones shorter or empty. So each rank's part is
one box of the whole, given by a half-open range per dimension; initial values, checkpoints and loading need nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from trimtab.strategy import Strategy
from workers.training.distributed import Place
from workers.training.pipeline_split import StagePart

Box = tuple[tuple[int, int], ...]

CUT_ROWS = re.compile(r"(?:^embedding|^head|\.(?:query|key|value|gate|up))\.(?:weight|bias)$")
"""Parameters that tensor parallelism cuts along dimension 0: columns of the projections, rows of the vocabulary."""
CUT_COLUMNS = re.compile(r"\.(?:attention\.output|cross_attention\.output|feed_forward\.down)\.weight$")
"""Parameters that it cuts along dimension 1: rows of the projections back to the residual stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The part of one parameter that a rank holds.

    ``shape`` is the whole's, ``box`` the rank's ranges. ``primary`` is true at exactly one of the ranks that hold the same box:
    that one counts it (norms) and writes it (checkpoints).
    """

    shape: tuple[int, ...]
    box: Box
    primary: bool = True

    def part(self, whole: Tensor) -> Tensor:
        """The rank's part of ``whole``, a view. Raises ValueError for another shape."""
        if tuple(whole.shape) != self.shape:
            raise ValueError(f"expected the whole tensor of shape {self.shape}, found {tuple(whole.shape)}")
        for dimension, (start, stop) in enumerate(self.box):
            whole = whole.narrow(dimension, start, stop - start)
        return whole

    @property
    def local_shape(self) -> tuple[int, ...]:
        """Shape of the rank's part."""
        return tuple(stop - start for start, stop in self.box)


def cut_dimension(name: str) -> int | None:
    """The dimension along which tensor parallelism cuts the parameter of that name; None where every rank has all of it."""
    if CUT_ROWS.search(name):
        return 0
    return 1 if CUT_COLUMNS.search(name) else None


def chunk(size: int, num_parts: int, index: int) -> tuple[int, int]:
    """The range of part ``index`` when ``size`` is cut as ``torch.chunk`` cuts it."""
    width = -(-size // num_parts)
    return min(index * width, size), min((index + 1) * width, size)


def rank_layouts(
    shapes: Mapping[str, tuple[int, ...]], *, strategy: Strategy, place: Place, parts: tuple[StagePart, ...]
) -> dict[str, Layout]:
    """The layout of each parameter that the rank at ``place`` holds; ``shapes`` names all parameters of the whole model."""
    layouts = {}
    for name, shape in shapes.items():
        if not parts[place.pp].holds(name):
            continue
        ranges = [(0, size) for size in shape]
        dimension = cut_dimension(name) if strategy.tp > 1 else None
        if dimension is not None:
            ranges[dimension] = chunk(shape[dimension], strategy.tp, place.tp)
        if strategy.fsdp > 1:
            start, stop = ranges[0]
            first, last = chunk(stop - start, strategy.fsdp, place.fsdp)
            ranges[0] = (start + first, start + last)
        first_holder = next(part.index for part in parts if part.holds(name))
        primary = place.dp == 0 and place.pp == first_holder and (dimension is not None or place.tp == 0)
        layouts[name] = Layout(shape=shape, box=tuple(ranges), primary=primary)
    return layouts
