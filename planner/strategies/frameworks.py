"""What a trainer can run. Each framework is one row of data; the legality rules read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from trimtab.builtin import beyond_builtin
from trimtab.errors import Problem, SpecError
from trimtab.model import ModelFamily, ModelSpec
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """The values of each dimension that a trainer runs. ``max_context``, ``max_expert`` and ``max_virtual_stages`` are degrees.

    ``pipeline_families`` are the model families that it cuts into pipeline stages; ``beyond`` says what it does not build of a
    model.
    """

    name: str
    zero_stages: tuple[int, ...]
    schedules: tuple[PipelineSchedule, ...]
    recomputes: tuple[Recompute, ...]
    precisions: tuple[Precision, ...]
    sequence_parallel: tuple[bool, ...]
    pipeline_families: tuple[ModelFamily, ...]
    beyond: Callable[[ModelSpec], tuple[str, ...]]
    max_context: int = 1
    max_expert: int = 1
    max_virtual_stages: int = 1
    offloads: tuple[Offload, ...] = (Offload.NONE,)


TRIMTAB = Framework(
    name="trimtab",
    zero_stages=(0, 3),
    schedules=(PipelineSchedule.ONE_F_ONE_B, PipelineSchedule.GPIPE),
    recomputes=(Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL),
    precisions=(Precision.FP64, Precision.FP32, Precision.TF32, Precision.BF16),
    sequence_parallel=(False, True),
    pipeline_families=(ModelFamily.DECODER, ModelFamily.ENCODER_DECODER),
    beyond=beyond_builtin,
)

FRAMEWORKS: Mapping[str, Framework] = MappingProxyType({row.name: row for row in (TRIMTAB,)})


def framework(name: str) -> Framework:
    """The framework of that name. Raises SpecError listing what is allowed."""
    try:
        return FRAMEWORKS[name]
    except KeyError:
        allowed = ", ".join(sorted(FRAMEWORKS))
        problem = Problem(path="framework", message=f"unknown framework {name!r}", allowed=allowed)
        raise SpecError([problem]) from None
