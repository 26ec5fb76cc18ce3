"""Target ``deepspeed``: a configuration in JSON and the launcher's command line, for a program of one's own.

Facts are those of DeepSpeed 0.19.8: ``runtime/config.py`` (keys; the train batch is micro-batch x accumulation x data ranks),
``runtime/zero/config.py``, ``runtime/tensor_parallel/config.py`` (AutoTP), ``runtime/pipe/engine.py`` (1F1B, no ZeRO above 1).
"""

from __future__ import annotations

from typing import Any

from planner.export import documents
from planner.export.models import tf32_environment, variables
from planner.export.types import (
    NODE_RANK,
    Dimension,
    ExportCase,
    ExportFile,
    ExportTarget,
    Launch,
    Rule,
    TargetRules,
    Written,
)
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute
from trimtab.workload import OptimizerKind

_PRECISIONS = (Precision.BF16, Precision.FP16, Precision.FP32, Precision.TF32)


def _no_hybrid(case: ExportCase) -> str:
    s = case.strategy
    return f"{s.dp} replicas of {s.fsdp} sharding ranks: ZeRO shards over all data ranks" if s.dp > 1 < s.fsdp else ""


def _no_zero(case: ExportCase) -> str:
    s = case.strategy
    return f"ZeRO stage {s.zero_stage} with a pipeline of {s.pp}" if s.pp > 1 and s.zero_stage > 1 else ""


def _no_tensor(case: ExportCase) -> str:
    s = case.strategy
    return f"tp {s.tp} with a pipeline of {s.pp}: AutoTP shards a plain module" if s.pp > 1 < s.tp else ""


def _pipeline_words(case: ExportCase) -> str:
    pp = case.strategy.pp
    return f"{case.script} has to build its PipelineModule with num_stages={pp}" if pp > 1 else ""


def _recompute_words(case: ExportCase) -> str:
    kind = case.strategy.recompute
    return f"{case.script} has to checkpoint its layers itself ({kind} recompute)" if kind is not Recompute.NONE else ""


def _no_offload(case: ExportCase) -> str:
    s = case.strategy
    if s.offload is Offload.OPTIMIZER and not s.zero_stage:
        return "optimizer offload without ZeRO"
    return "activations offload without full recompute" if _moves_activations(case) and s.recompute is not Recompute.FULL else ""


def _moves_activations(case: ExportCase) -> bool:
    return case.strategy.offload is Offload.ACTIVATIONS


def _no_split(case: ExportCase) -> str:
    layers = case.strategy.stage_layers
    return f"stages of {', '.join(map(str, layers))} layers" if layers else ""


def _optimizer(case: ExportCase) -> dict[str, Any]:
    optimizer = case.train.optimizer
    common = {"lr": optimizer.learning_rate, "weight_decay": optimizer.weight_decay}
    if optimizer.kind is OptimizerKind.SGD:
        return {"type": "SGD", "params": {**common, "momentum": optimizer.momentum}}
    betas = [optimizer.beta1, optimizer.beta2]
    return {"type": "AdamW", "params": {**common, "betas": betas, "eps": optimizer.epsilon}}


def _config(case: ExportCase) -> dict[str, Any]:
    s = case.strategy
    zero: dict[str, Any] = {"stage": s.zero_stage}
    if s.offload is Offload.OPTIMIZER:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    tree: dict[str, Any] = {
        "train_batch_size": s.global_batch,
        "train_micro_batch_size_per_gpu": s.micro_batch,
        "gradient_accumulation_steps": s.num_micro_batches,
        "gradient_clipping": case.train.optimizer.clip_norm,
        "zero_optimization": zero,
        "optimizer": _optimizer(case),
        "bf16": {"enabled": s.precision is Precision.BF16},
        "fp16": {"enabled": s.precision is Precision.FP16},
    }
    if s.tp > 1:
        tree["tensor_parallel"] = {"autotp_size": s.tp}
    if s.pp > 1:
        tree["pipeline"] = {"stages": s.pp}
    if s.recompute is Recompute.FULL:
        tree["activation_checkpointing"] = {"cpu_checkpointing": _moves_activations(case), "partition_activations": False}
    return tree


def _write(case: ExportCase) -> Written:
    shape = case.shape
    where: tuple[str, ...] = ("--num_gpus", str(shape.devices_per_node))
    files = [ExportFile(name="ds_config.json", text=documents.to_json(_config(case)))]
    if shape.num_nodes > 1:
        hosts = "".join(f"node-{node} slots={shape.devices_per_node}\n" for node in range(shape.num_nodes))
        files.append(ExportFile(name="hostfile", text=hosts))
        where = ("--hostfile", "hostfile", "--no_ssh", "--node_rank", NODE_RANK, "--master_addr", case.main_address)
    where = (*where, "--master_port", str(case.main_port))
    argv = ("deepspeed", *where, case.script, "--deepspeed", "--deepspeed_config", "ds_config.json")
    launch = Launch(argv=argv, environment={**variables(case), **tf32_environment(case)})
    return Written(files=(*files, documents.start_script(launch, shape.num_nodes)), launch=launch)


def _remarks(case: ExportCase) -> tuple[str, ...]:
    hosts = ("hostfile names the nodes node-0, node-1, ...: put the names of your machines there",)
    schedule = f"{case.script} sets the learning-rate schedule ({case.train.optimizer.schedule})"
    return (schedule, *(hosts if case.shape.num_nodes > 1 else ()))


_BATCH = ("train_batch_size",)
_RULES = (
    Rule(
        dimension=Dimension.DP, keys=_BATCH, limits="the data ranks are what tp and pp leave; dp or fsdp is 1", refuse=_no_hybrid
    ),
    Rule(dimension=Dimension.FSDP, keys=("zero_optimization.stage", *_BATCH), limits="all data ranks"),
    Rule(
        dimension=Dimension.ZERO_STAGE,
        keys=("zero_optimization.stage",),
        limits="0 to 3; 0 or 1 with a pipeline",
        refuse=_no_zero,
    ),
    Rule(dimension=Dimension.TP, keys=("tensor_parallel.autotp_size",), limits="without a pipeline", refuse=_no_tensor),
    Rule(
        dimension=Dimension.SEQUENCE_PARALLEL,
        keys=(),
        limits="off",
        refuse=lambda c: "AutoTP does not share the sequence" if c.strategy.sequence_parallel else "",
    ),
    Rule(
        dimension=Dimension.CP,
        keys=(),
        limits="1 (Ulysses is another method, and the program's)",
        refuse=lambda c: f"context parallel {c.strategy.cp}" if c.strategy.cp > 1 else "",
    ),
    Rule(dimension=Dimension.PP, keys=("pipeline.stages",), remark=_pipeline_words),
    Rule(
        dimension=Dimension.VIRTUAL_STAGES,
        keys=(),
        limits="1",
        refuse=lambda c: f"{c.strategy.virtual_stages} virtual stages" if c.strategy.virtual_stages > 1 else "",
    ),
    Rule(
        dimension=Dimension.SCHEDULE,
        keys=("pipeline.stages",),
        limits="1f1b",
        refuse=lambda c: f"the schedule {c.strategy.schedule}" if c.strategy.pp > 1 and not _is_1f1b(c) else "",
    ),
    Rule(
        dimension=Dimension.EP,
        keys=(),
        limits="1 (experts are built by the program)",
        refuse=lambda c: f"expert parallel {c.strategy.ep}" if c.strategy.ep > 1 else "",
    ),
    Rule(
        dimension=Dimension.ETP,
        keys=(),
        limits="1",
        refuse=lambda c: f"expert tensor parallel {c.strategy.etp}" if c.strategy.etp > 1 else "",
    ),
    Rule(dimension=Dimension.MICRO_BATCH, keys=("train_micro_batch_size_per_gpu",)),
    Rule(dimension=Dimension.NUM_MICRO_BATCHES, keys=("gradient_accumulation_steps",)),
    Rule(
        dimension=Dimension.RECOMPUTE,
        keys=("activation_checkpointing", "TRIMTAB_RECOMPUTE"),
        limits="by the program",
        remark=_recompute_words,
    ),
    Rule(
        dimension=Dimension.PRECISION,
        keys=("bf16.enabled", "fp16.enabled"),
        limits="bf16, fp16, fp32; tf32 by PyTorch's variable",
        refuse=lambda c: "" if c.strategy.precision in _PRECISIONS else f"{c.strategy.precision}",
    ),
    Rule(
        dimension=Dimension.OFFLOAD,
        keys=("zero_optimization.offload_optimizer", "activation_checkpointing.cpu_checkpointing"),
        limits="none; optimizer with ZeRO; activations with full recompute",
        refuse=_no_offload,
    ),
    Rule(dimension=Dimension.STAGE_LAYERS, keys=(), limits="the PipelineModule's own split", refuse=_no_split),
)


def _is_1f1b(case: ExportCase) -> bool:
    return case.strategy.schedule is PipelineSchedule.ONE_F_ONE_B


DEEPSPEED = TargetRules(
    target=ExportTarget.DEEPSPEED,
    version="DeepSpeed 0.19.8",
    rules=_RULES,
    beyond=lambda _case: (),
    remarks=_remarks,
    write=_write,
)
