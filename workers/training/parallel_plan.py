"""Everything that decides what one rank holds and does, gathered once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from trimtab.model import ModelSpec
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload
from workers.training.distributed import Place, build_mesh
from workers.training.parallel_checks import check
from workers.training.pipeline_split import StagePart, stage_parts
from workers.training.precision import Formats, formats


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlan:
    """This rank's place in the mesh (None: a single rank), the stages, and the number formats."""

    model: ModelSpec
    train: TrainWorkload
    strategy: Strategy
    device: torch.device
    mesh: DeviceMesh | None
    place: Place
    parts: tuple[StagePart, ...]
    formats: Formats

    @classmethod
    def of(cls, *, model: ModelSpec, train: TrainWorkload, strategy: Strategy, device: torch.device) -> RankPlan:
        """The plan of this process; builds the mesh. Raises ValueError for what the engine does not have or what does not fit."""
        check(model, train, strategy)
        kinds = formats(strategy.precision, device)
        mesh = build_mesh(strategy, device)
        return cls(
            model=model,
            train=train,
            strategy=strategy,
            device=device,
            mesh=mesh,
            place=Place.of(strategy, dist.get_rank() if mesh is not None else 0),
            parts=stage_parts(model, strategy),
            formats=kinds,
        )

    @property
    def rank(self) -> int:
        """This rank."""
        return dist.get_rank() if self.mesh is not None else 0

    @property
    def part(self) -> StagePart:
        """This rank's stage."""
        return self.parts[self.place.pp]

    @property
    def sequence_parallel(self) -> bool:
        """Whether the residual stream is cut along the sequence."""
        return self.strategy.tp > 1 and self.strategy.sequence_parallel

    def group(self, axis: str) -> dist.ProcessGroup:
        """The ranks along one axis that this rank belongs to."""
        assert self.mesh is not None
        return self.mesh[axis].get_group()
