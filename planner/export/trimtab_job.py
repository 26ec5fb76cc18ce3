"""Target ``trimtab``: the job file with the strategy fixed, for Trimtab's own planner and trainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from planner.export import documents
from planner.export.types import Dimension, ExportCase, ExportFile, ExportTarget, Launch, Rule, TargetRules, Written
from planner.strategies.frameworks import TRIMTAB
from trimtab.jobspec import StrategyRequest
from trimtab.strategy import PipelineSchedule, Strategy

FIXED = frozenset(field.name for field in dataclasses.fields(StrategyRequest))
"""Parts of a strategy that a job file can fix."""

_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Strategy)}


def _value(case: ExportCase, dimension: Dimension) -> Any:
    return getattr(case.strategy, dimension)


def _is_run(case: ExportCase, dimension: Dimension) -> bool:
    """Whether Trimtab's own trainer runs that value."""
    value = _value(case, dimension)
    allowed: Mapping[Dimension, tuple[Any, ...]] = {
        Dimension.ZERO_STAGE: TRIMTAB.zero_stages,
        Dimension.SCHEDULE: (*TRIMTAB.schedules, *([value] if case.strategy.pp == 1 else [])),
        Dimension.RECOMPUTE: TRIMTAB.recomputes,
        Dimension.PRECISION: TRIMTAB.precisions,
        Dimension.OFFLOAD: TRIMTAB.offloads,
        Dimension.SEQUENCE_PARALLEL: TRIMTAB.sequence_parallel,
    }
    highest = {
        Dimension.CP: TRIMTAB.max_context,
        Dimension.EP: TRIMTAB.max_expert,
        Dimension.ETP: TRIMTAB.max_expert,
        Dimension.VIRTUAL_STAGES: TRIMTAB.max_virtual_stages,
    }
    return value in allowed.get(dimension, (value,)) and (dimension not in highest or value <= highest[dimension])


_FOLLOWS = {
    Dimension.ZERO_STAGE: "follows from fsdp",
    Dimension.NUM_MICRO_BATCHES: "follows from workload.global_batch",
    Dimension.PRECISION: "workload.precision",
}
"""What the file says without a part of ``strategy:``, because the trainer leaves no choice."""


def _rule(dimension: Dimension) -> Rule:
    fixed = dimension in FIXED

    def refuse(case: ExportCase) -> str:
        return "" if _is_run(case, dimension) else f"Trimtab's trainer does not run {dimension} {_value(case, dimension)}"

    def remark(case: ExportCase) -> str:
        value = _value(case, dimension)
        if fixed or dimension in _FOLLOWS or value == _DEFAULTS[dimension] or _is_idle(case, dimension):
            return ""
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
        return f"a job file does not fix it: the planner chooses it again (here it chose {shown})"

    keys = (f"strategy.{dimension}",) if fixed else ()
    limits = _FOLLOWS.get(dimension, "what Trimtab's trainer runs" if fixed else "what Trimtab's trainer runs; chosen again")
    return Rule(dimension=dimension, keys=keys, limits=limits, refuse=refuse, remark=remark)


def _is_idle(case: ExportCase, dimension: Dimension) -> bool:
    return dimension is Dimension.SCHEDULE and (case.strategy.pp == 1 or case.strategy.schedule is PipelineSchedule.ONE_F_ONE_B)


def _write(case: ExportCase) -> Written:
    assert case.job is not None
    tree = dict(case.job)
    tree["strategy"] = {
        name: _plain(getattr(case.strategy, name)) for name in _DEFAULTS if name in FIXED and _is_said(case, name)
    }
    devices = dict(tree.get("devices") or {})
    devices["count"] = case.shape.num_devices
    if case.types:
        devices["types"] = list(case.types)
    tree["devices"] = devices
    launch = Launch(argv=("trimtab", "run", "job.yaml"))
    config = ExportFile(name="job.yaml", text=documents.to_yaml(tree))
    return Written(files=(config, documents.start_script(launch, 1)), launch=launch)


def _is_said(case: ExportCase, name: str) -> bool:
    """Stages of an even split need no list."""
    return bool(getattr(case.strategy, name)) or name != Dimension.STAGE_LAYERS


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, bool | int) else str(value)


def _beyond(case: ExportCase) -> tuple[str, ...]:
    without = () if case.job is not None else ("a plan without its job file",)
    precision = case.strategy.precision is not case.train.precision
    return (*without, *(("a precision that is not the workload's",) if precision else ()))


TRIMTAB_JOB = TargetRules(
    target=ExportTarget.TRIMTAB,
    version="this version",
    rules=tuple(_rule(dimension) for dimension in Dimension),
    beyond=_beyond,
    write=_write,
)
