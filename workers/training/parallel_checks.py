"""What the engine refuses, with the field, what was found and what is allowed."""

from __future__ import annotations

from trimtab.model import ModelSpec
from trimtab.strategy import PipelineSchedule, Strategy
from trimtab.workload import TrainWorkload
from workers.training.pipeline_split import stage_layers

SCHEDULES = (PipelineSchedule.ONE_F_ONE_B, PipelineSchedule.GPIPE)


def check(model: ModelSpec, train: TrainWorkload, strategy: Strategy) -> None:
    """Raise ValueError where the engine cannot run ``model`` under ``strategy``; all reasons at once."""
    problems = [*_unknown(strategy), *_batch(train, strategy), *_tensor(model, train, strategy), *_pipeline(model, strategy)]
    if problems:
        raise ValueError("; ".join(problems))


def _unknown(strategy: Strategy) -> list[str]:
    problems = []
    if strategy.cp > 1:
        problems.append(f"cp: the trainer has no context parallelism, found {strategy.cp}; allowed: 1")
    if strategy.ep > 1:
        problems.append(f"ep: the trainer has no expert parallelism, found {strategy.ep}; allowed: 1")
    return problems


def _batch(train: TrainWorkload, strategy: Strategy) -> list[str]:
    if strategy.global_batch == train.global_batch:
        return []
    return [
        f"global_batch: the strategy's is {strategy.global_batch} (micro_batch x num_micro_batches x dp x fsdp), "
        f"the workload's {train.global_batch}"
    ]


def _tensor(model: ModelSpec, train: TrainWorkload, strategy: Strategy) -> list[str]:
    if strategy.tp == 1:
        return []
    problems = []
    for stack in model.stacks:
        for field, size in (
            ("num_heads", stack.attention.num_heads),
            ("num_kv_heads", stack.attention.num_kv_heads),
            ("feed_forward.hidden_size", stack.feed_forward.hidden_size),
        ):
            if size % strategy.tp:
                problems.append(f"tp: {strategy.tp} does not divide {field} {size} of the {stack.role}")
    if strategy.sequence_parallel:
        for field, length in (("sequence_length", train.sequence_length), ("source_length", train.source_length)):
            if length % strategy.tp:
                problems.append(f"sequence_parallel: tp {strategy.tp} does not divide {field} {length}")
    return problems


def _pipeline(model: ModelSpec, strategy: Strategy) -> list[str]:
    problems = []
    if strategy.pp > 1 and strategy.schedule not in SCHEDULES:
        allowed = ", ".join(SCHEDULES)
        problems.append(f"schedule: the trainer has no {strategy.schedule}; allowed: {allowed}; nearest: {SCHEDULES[0]}")
    if strategy.virtual_stages > 1:
        problems.append(f"virtual_stages: found {strategy.virtual_stages}; allowed: 1")
    layers = stage_layers(model, strategy)
    if sum(layers) != model.num_layers or min(layers) < 1:
        problems.append(f"stage_layers: {list(layers)} must be at least 1 each and add up to {model.num_layers} layers")
    return problems
