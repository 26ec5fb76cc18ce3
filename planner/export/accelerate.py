"""Target ``accelerate``: a file for ``accelerate launch --config_file``, for a program of one's own.

Facts are those of Accelerate 1.15.0: ``commands/config/config_args.py`` and ``commands/launch.py`` (keys),
``parallelism_config.py`` (which degrees go together), ``utils/dataclasses.py`` (the plugins). One plugin carries the plan:
Megatron-LM where there is a pipeline or expert parallelism, DeepSpeed for ZeRO stage 1, FSDP2 for stages 2 and 3 and for tensor
and context parallelism, else plain DDP.
"""

from __future__ import annotations

from enum import StrEnum
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
from trimtab.inventory import DeviceKind
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute


class Plugin(StrEnum):
    """Accelerate's ``distributed_type``."""

    NONE = "NO"
    DDP = "MULTI_GPU"
    DDP_ON_CPU = "MULTI_CPU"
    FSDP = "FSDP"
    DEEPSPEED = "DEEPSPEED"
    MEGATRON = "MEGATRON_LM"


_MIXED = {
    Precision.FP32: "no",
    Precision.TF32: "no",
    Precision.BF16: "bf16",
    Precision.FP16: "fp16",
    Precision.FP8: "fp8",
    Precision.MXFP8: "fp8",
}


def plugin(case: ExportCase) -> Plugin:
    """The plugin that carries the plan."""
    s = case.strategy
    if s.pp > 1 or s.ep * s.etp > 1:
        return Plugin.MEGATRON
    if s.zero_stage == 1:
        return Plugin.DEEPSPEED
    if s.zero_stage > 1 or s.cp > 1 or s.tp > 1:
        return Plugin.FSDP
    if s.world_size == 1:
        return Plugin.NONE
    return Plugin.DDP_ON_CPU if case.device_kind is DeviceKind.CPU else Plugin.DDP


def _no_hybrid(case: ExportCase) -> str:
    s = case.strategy
    hybrid = s.dp > 1 < s.fsdp and plugin(case) is not Plugin.FSDP
    if hybrid:
        return f"{s.dp} replicas of {s.fsdp} sharding ranks with ZeRO stage {s.zero_stage}"
    alone = plugin(case) is Plugin.FSDP and s.dp > 1 and s.fsdp == 1
    return f"dp {s.dp} beside tp {s.tp} and cp {s.cp} without fsdp" if alone else ""


def _no_zero(case: ExportCase) -> str:
    s = case.strategy
    return f"ZeRO stage {s.zero_stage} with a pipeline or experts" if plugin(case) is Plugin.MEGATRON and s.zero_stage > 1 else ""


def _context_shards(case: ExportCase) -> str:
    s = case.strategy
    words = f"parameters are sharded over the {s.cp} context ranks as well"
    return words if s.cp > 1 and plugin(case) is Plugin.FSDP else ""


def _no_tensor(case: ExportCase) -> str:
    s = case.strategy
    used = plugin(case)
    if s.tp > 1 and used is Plugin.DEEPSPEED:
        return f"tp {s.tp} with ZeRO stage 1"
    return f"tp {s.tp} without fsdp or cp above 1" if used is Plugin.FSDP and s.fsdp * s.cp == 1 else ""


def _no_sequence(case: ExportCase) -> str:
    shares = case.strategy.sequence_parallel and plugin(case) is not Plugin.MEGATRON
    return "sequence parallelism outside the Megatron-LM plugin" if shares else ""


def _no_context(case: ExportCase) -> str:
    s = case.strategy
    return f"context parallel {s.cp} with ZeRO stage 1" if s.cp > 1 and plugin(case) is Plugin.DEEPSPEED else ""


def _no_schedule(case: ExportCase) -> str:
    s = case.strategy
    return f"the schedule {s.schedule}" if s.pp > 1 and s.schedule is not PipelineSchedule.ONE_F_ONE_B else ""


def _no_recompute(case: ExportCase) -> str:
    selective = case.strategy.recompute is Recompute.SELECTIVE
    return "selective recompute with FSDP2: it checkpoints whole layers" if selective and plugin(case) is Plugin.FSDP else ""


def _recompute_words(case: ExportCase) -> str:
    kind = case.strategy.recompute
    own = kind is not Recompute.NONE and plugin(case) not in (Plugin.FSDP, Plugin.MEGATRON)
    return f"{case.script} has to checkpoint its layers itself ({kind} recompute)" if own else ""


def _no_precision(case: ExportCase) -> str:
    s = case.strategy
    if s.precision not in _MIXED:
        return f"{s.precision}"
    eighth = _MIXED[s.precision] == "fp8" and plugin(case) in (Plugin.DEEPSPEED, Plugin.MEGATRON)
    return f"{s.precision} with the plugin {plugin(case)}" if eighth else ""


def _no_offload(case: ExportCase) -> str:
    s, used = case.strategy, plugin(case)
    if s.offload is Offload.OPTIMIZER:
        takes = used is Plugin.DEEPSPEED or (used is Plugin.MEGATRON and s.zero_stage == 1)
        return "" if takes else f"optimizer offload with ZeRO stage {s.zero_stage}"
    if s.offload is Offload.ACTIVATIONS and not (used is Plugin.FSDP and s.recompute is Recompute.FULL):
        return "activations offload without FSDP2 and full recompute"
    return ""


def _fsdp(case: ExportCase) -> dict[str, Any]:
    s = case.strategy
    return {
        "fsdp_config": {
            "fsdp_version": 2,
            "fsdp_reshard_after_forward": s.zero_stage != 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_state_dict_type": "SHARDED_STATE_DICT",
            "fsdp_offload_params": False,
            "fsdp_activation_checkpointing": s.recompute is Recompute.FULL,
            "fsdp_activation_checkpointing_offload": s.offload is Offload.ACTIVATIONS,
        },
        "parallelism_config": {
            "parallelism_config_dp_replicate_size": s.dp,
            "parallelism_config_dp_shard_size": s.fsdp,
            "parallelism_config_tp_size": s.tp,
            "parallelism_config_cp_size": s.cp,
        },
    }


def _deepspeed(case: ExportCase) -> dict[str, Any]:
    s = case.strategy
    return {
        "deepspeed_config": {
            "zero_stage": s.zero_stage,
            "gradient_accumulation_steps": s.num_micro_batches,
            "gradient_clipping": case.train.optimizer.clip_norm,
            "offload_optimizer_device": "cpu" if s.offload is Offload.OPTIMIZER else "none",
            "offload_param_device": "none",
            "zero3_init_flag": False,
        }
    }


def _megatron(case: ExportCase) -> dict[str, Any]:
    s = case.strategy
    keys: dict[str, Any] = {
        "tp_degree": s.tp,
        "pp_degree": s.pp,
        "context_parallel_size": s.cp,
        "expert_model_parallel_size": s.ep,
        "expert_tensor_parallel_size": s.etp,
        "num_micro_batches": s.num_micro_batches,
        "sequence_parallelism": s.sequence_parallel,
        "use_distributed_optimizer": s.zero_stage == 1,
        "gradient_clipping": case.train.optimizer.clip_norm,
        "optimizer_cpu_offload": s.offload is Offload.OPTIMIZER,
        "recompute_activations": s.recompute is not Recompute.NONE,
    }
    if s.recompute is not Recompute.NONE:
        keys["recompute_granularity"] = str(s.recompute)
    return {"megatron_lm_config": {f"megatron_lm_{key}": value for key, value in keys.items()}}


_SECTIONS = {Plugin.FSDP: _fsdp, Plugin.DEEPSPEED: _deepspeed, Plugin.MEGATRON: _megatron}


def _write(case: ExportCase) -> Written:
    s, shape, used = case.strategy, case.shape, plugin(case)
    tree: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": str(used),
        "mixed_precision": _MIXED[s.precision],
        "num_machines": shape.num_nodes,
        "num_processes": shape.num_devices,
        "main_process_ip": case.main_address,
        "main_process_port": case.main_port,
        "rdzv_backend": "static",
        "same_network": True,
        "use_cpu": case.device_kind is DeviceKind.CPU,
        "main_training_function": "main",
    }
    if used in _SECTIONS:
        tree.update(_SECTIONS[used](case))
    if _MIXED[s.precision] == "fp8":
        tree["fp8_config"] = {"backend": "TE", "fp8_format": "HYBRID", "use_mxfp8_block_scaling": s.precision is Precision.MXFP8}
    argv = ("accelerate", "launch", "--config_file", "accelerate.yaml", "--machine_rank", NODE_RANK, case.script)
    accumulation = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": str(s.num_micro_batches)}
    launch = Launch(argv=argv, environment={**variables(case), **accumulation, **tf32_environment(case)})
    config = ExportFile(name="accelerate.yaml", text=documents.to_yaml(tree))
    return Written(files=(config, documents.start_script(launch, shape.num_nodes)), launch=launch)


def _batch_words(case: ExportCase) -> str:
    size = case.strategy.micro_batch
    return f"{case.script} has to load {size} samples at a time (TRIMTAB_MICRO_BATCH), with its own optimizer and schedule"


def _refuse_above_one(name: str) -> Rule:
    dimension = Dimension(name)
    return Rule(
        dimension=dimension,
        keys=(),
        limits="1",
        refuse=lambda c: f"{name} {getattr(c.strategy, name)}" if getattr(c.strategy, name) > 1 else "",
    )


_P, _M = "parallelism_config_", "megatron_lm_"
_RULES = (
    Rule(
        dimension=Dimension.DP,
        keys=(f"{_P}dp_replicate_size", "num_processes"),
        limits="with fsdp above 1 only for ZeRO stages 2 and 3; beside tp or cp only with fsdp above 1",
        refuse=_no_hybrid,
    ),
    Rule(dimension=Dimension.FSDP, keys=(f"{_P}dp_shard_size", "num_processes")),
    Rule(
        dimension=Dimension.ZERO_STAGE,
        keys=("distributed_type", "fsdp_reshard_after_forward", "zero_stage", f"{_M}use_distributed_optimizer"),
        limits="0 to 3; 0 or 1 with a pipeline or experts",
        refuse=_no_zero,
        remark=_context_shards,
    ),
    Rule(
        dimension=Dimension.TP,
        keys=(f"{_P}tp_size", f"{_M}tp_degree"),
        limits="with fsdp (ZeRO 2 or 3), cp, pp or ep above 1",
        refuse=_no_tensor,
    ),
    Rule(
        dimension=Dimension.SEQUENCE_PARALLEL,
        keys=(f"{_M}sequence_parallelism",),
        limits="with a pipeline or experts (the Megatron-LM plugin)",
        refuse=_no_sequence,
    ),
    Rule(
        dimension=Dimension.CP,
        keys=(f"{_P}cp_size", f"{_M}context_parallel_size"),
        limits="not with ZeRO stage 1 alone",
        refuse=_no_context,
    ),
    Rule(dimension=Dimension.PP, keys=(f"{_M}pp_degree",)),
    _refuse_above_one("virtual_stages"),
    Rule(dimension=Dimension.SCHEDULE, keys=(f"{_M}pp_degree",), limits="1f1b", refuse=_no_schedule),
    Rule(dimension=Dimension.EP, keys=(f"{_M}expert_model_parallel_size",)),
    Rule(dimension=Dimension.ETP, keys=(f"{_M}expert_tensor_parallel_size",)),
    Rule(dimension=Dimension.MICRO_BATCH, keys=("TRIMTAB_MICRO_BATCH",), limits="by the program", remark=_batch_words),
    Rule(
        dimension=Dimension.NUM_MICRO_BATCHES,
        keys=("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "gradient_accumulation_steps", f"{_M}num_micro_batches"),
    ),
    Rule(
        dimension=Dimension.RECOMPUTE,
        keys=("fsdp_activation_checkpointing", f"{_M}recompute_granularity", "TRIMTAB_RECOMPUTE"),
        limits="none and full; selective not with FSDP2",
        refuse=_no_recompute,
        remark=_recompute_words,
    ),
    Rule(
        dimension=Dimension.PRECISION,
        keys=("mixed_precision", "fp8_config"),
        limits="fp32, bf16, fp16; fp8 and mxfp8 with FSDP2 or DDP; tf32 by PyTorch's variable",
        refuse=_no_precision,
    ),
    Rule(
        dimension=Dimension.OFFLOAD,
        keys=("offload_optimizer_device", f"{_M}optimizer_cpu_offload", "fsdp_activation_checkpointing_offload"),
        limits="none; optimizer with ZeRO stage 1; activations with FSDP2 and full recompute",
        refuse=_no_offload,
    ),
    Rule(
        dimension=Dimension.STAGE_LAYERS,
        keys=(),
        limits="the plugin's own split",
        refuse=lambda c: f"stages of {', '.join(map(str, c.strategy.stage_layers))} layers" if c.strategy.stage_layers else "",
    ),
)

ACCELERATE = TargetRules(
    target=ExportTarget.ACCELERATE,
    version="Accelerate 1.15.0",
    rules=_RULES,
    beyond=lambda case: ("devices of kind tpu",) if case.device_kind is DeviceKind.TPU else (),
    write=_write,
)
