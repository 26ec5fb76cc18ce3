"""Memory of a strategy without its time: most strategies are refused here, and it takes no kernel times."""

from __future__ import annotations

from functools import lru_cache

from planner.costs import DeviceContext
from planner.costs.memory import rank_memory
from planner.costs.stages import build_stages
from planner.costs.types import ConstantLog
from trimtab.inventory import DeviceKind
from trimtab.model import ModelSpec
from trimtab.plan import RankMemory
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload


def predict_memory(
    *, model: ModelSpec, train: TrainWorkload, strategy: Strategy, context: DeviceContext
) -> tuple[RankMemory, ...]:
    """Memory of the ranks of each pipeline stage: the same figures as in the full prediction."""
    return _memory(model, train, strategy, context.device_type.kind)


@lru_cache(maxsize=65_536)
def _memory(model: ModelSpec, train: TrainWorkload, strategy: Strategy, kind: DeviceKind) -> tuple[RankMemory, ...]:
    log = ConstantLog()
    stages = build_stages(model, train, strategy, kind=kind)
    return tuple(rank_memory(stage, train, strategy, kind=kind, log=log) for stage in stages)
