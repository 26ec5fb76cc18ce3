"""Target ``maxtext``: a configuration that stands on MaxText's ``base.yml``, and the command that trains with it.

Facts are those of MaxText at commit e591f30c (2026-08-22): ``configs/base.yml``, ``configs/types.py`` (keys; the global batch is
per_device_batch_size x devices x gradient_accumulation_steps), ``layers/decoders.py`` (remat policies), ``layers/pipeline.py`` (a
circular pipeline, differentiated as a whole: all forward passes come before the backward ones).
"""

from __future__ import annotations

import math
from typing import Any

from planner.export import documents
from planner.export.models import beyond_llama, decoders, is_adamw, is_expert
from planner.export.types import Dimension, ExportCase, ExportFile, ExportTarget, Launch, Rule, TargetRules, Written
from trimtab.inventory import DeviceKind
from trimtab.model import ModelSpec
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute
from trimtab.workload import ScheduleKind

_AXES = ("pipeline", "data", "fsdp", "expert", "context", "tensor_sequence", "tensor")
"""Axes of MaxText's mesh, those that may best cross nodes first."""

_PRECISION = {
    Precision.BF16: ("bfloat16", "default", ""),
    Precision.FP32: ("float32", "highest", ""),
    Precision.FP8: ("bfloat16", "default", "fp8"),
    Precision.MXFP8: ("bfloat16", "default", "te_mxfp8"),
    Precision.NVFP4: ("bfloat16", "default", "te_nvfp4"),
}
_REMAT = {Recompute.NONE: "none", Recompute.SELECTIVE: "minimal", Recompute.FULL: "full"}


def _degrees(case: ExportCase) -> dict[str, int]:
    """The degree of every axis. Expert ranks are taken out of the sharding ranks, which hold them in a plan."""
    s = case.strategy
    sharded = s.fsdp // s.ep
    data, fsdp = (sharded, 1) if s.zero_stage == 1 else (s.dp, sharded)
    tensor, sequence = (1, s.tp) if s.sequence_parallel else (s.tp, 1)
    return dict(zip(_AXES, (s.pp, data, fsdp, s.ep, s.cp, sequence, tensor), strict=True))


def mesh(case: ExportCase) -> tuple[dict[str, int], dict[str, int], int]:
    """Degrees across nodes, degrees within one, and the nodes that no axis covers (1: all are). A TPU slice is one domain."""
    left = 1 if case.device_kind is DeviceKind.TPU else case.shape.num_nodes
    across, within = {}, {}
    for axis, degree in _degrees(case).items():
        across[axis] = math.gcd(degree, left)
        within[axis] = degree // across[axis]
        left //= across[axis]
    return across, within, left


def _no_mesh(case: ExportCase) -> str:
    _, _, left = mesh(case)
    return f"{case.shape.num_nodes} nodes: no degrees cover {left} of them" if left > 1 else ""


def _no_zero(case: ExportCase) -> str:
    s = case.strategy
    if s.zero_stage == 2:
        return "ZeRO stage 2"
    partly = s.zero_stage == 1 and (s.dp > 1 or s.ep > 1)
    return f"ZeRO stage 1 with dp {s.dp} and ep {s.ep}: the optimizer is sharded over all data ranks" if partly else ""


def _no_schedule(case: ExportCase) -> str:
    s = case.strategy
    wanted = PipelineSchedule.INTERLEAVED if s.virtual_stages > 1 else PipelineSchedule.GPIPE
    return f"the schedule {s.schedule} with {s.virtual_stages} virtual stages" if s.pp > 1 and s.schedule is not wanted else ""


def _interleaved_words(case: ExportCase) -> str:
    s = case.strategy
    return "all forward passes come before the backward ones" if s.pp > 1 < s.virtual_stages else ""


def _no_virtual(case: ExportCase) -> str:
    s = case.strategy
    return f"{s.virtual_stages} virtual stages without a pipeline" if s.pp == 1 and s.virtual_stages > 1 else ""


def _no_split(case: ExportCase) -> str:
    layers = case.stage_layers
    return f"stages of {', '.join(map(str, layers))} layers" if len(set(layers)) > 1 else ""


def _no_experts(case: ExportCase) -> str:
    s = case.strategy
    if s.ep > 1 and not is_expert(case.model):
        return f"expert parallel {s.ep} of a model without experts"
    return f"ep {s.ep} does not divide fsdp {s.fsdp}" if s.fsdp % s.ep else ""


def _no_expert_tensor(case: ExportCase) -> str:
    s = case.strategy
    wanted = s.tp if is_expert(case.model) else 1
    return f"etp {s.etp} beside tp {s.tp}" if s.etp != wanted else ""


def _per_device(case: ExportCase) -> float:
    s = case.strategy
    return s.micro_batch * (s.num_micro_batches if s.pp > 1 else 1) * s.data_ranks / s.world_size


def _no_fraction(case: ExportCase) -> str:
    """MaxText multiplies and cuts to a whole number, which a fraction may miss by one."""
    s = case.strategy
    wanted = s.micro_batch * (s.num_micro_batches if s.pp > 1 else 1) * s.data_ranks
    return f"{_per_device(case)} samples per device are not exact" if int(s.world_size * _per_device(case)) != wanted else ""


def _no_micro_batches(case: ExportCase) -> str:
    s = case.strategy
    return f"{s.num_micro_batches} micro-batches are no multiple of pp {s.pp}" if s.pp > 1 and s.num_micro_batches % s.pp else ""


def _no_offload(case: ExportCase) -> str:
    s = case.strategy
    moves = s.offload is Offload.ACTIVATIONS
    return f"activations offload with {s.recompute} recompute" if moves and s.recompute is not Recompute.SELECTIVE else ""


def _beyond(case: ExportCase) -> tuple[str, ...]:
    beyond = list(beyond_llama(case.model))
    if not beyond and any(stack.other_parameters for stack in decoders(case.model)):
        beyond.append("norms of queries and keys")
    if not beyond and any(_odd_experts(stack.feed_forward.experts) for stack in decoders(case.model)):
        beyond.append("shared experts, or a router with a bias")
    if not is_adamw(case):
        beyond.append("the optimizer sgd")
    if case.train.optimizer.schedule is ScheduleKind.LINEAR:
        beyond.append("a linear learning-rate schedule")
    if _no_mesh(case):
        beyond.append(_no_mesh(case))
    return tuple(beyond)


def _odd_experts(experts: Any) -> bool:
    return experts is not None and bool(experts.shared_size or experts.router_bias or experts.shared_gate)


def _model(model: ModelSpec) -> dict[str, Any]:
    (stack,) = decoders(model)
    forward, attention = stack.feed_forward, stack.attention
    keys: dict[str, Any] = {
        "decoder_block": "llama2" if forward.experts is None else "mixtral",
        "base_emb_dim": model.hidden_size,
        "base_num_query_heads": attention.num_heads,
        "base_num_kv_heads": attention.num_kv_heads,
        "head_dim": attention.head_size,
        "base_mlp_dim": forward.hidden_size,
        "base_num_decoder_layers": model.num_layers,
        "mlp_activations": ["silu", "linear"],
        "vocab_size": model.vocab_size,
        "logits_via_embedding": model.tied_embeddings,
        "normalization_layer_epsilon": model.norm_epsilon,
        "rope_max_timescale": int(model.rope_theta),
    }
    if forward.experts is not None:
        keys["num_experts"] = forward.experts.num_experts
        keys["num_experts_per_tok"] = forward.experts.top_k
        keys["base_moe_mlp_dim"] = forward.hidden_size
    return keys


def _parallelism(case: ExportCase) -> dict[str, Any]:
    s = case.strategy
    across, within, _ = mesh(case)
    keys: dict[str, Any] = {f"ici_{axis}_parallelism": degree for axis, degree in within.items()}
    keys |= {f"dcn_{axis}_parallelism": degree for axis, degree in across.items()}
    keys["shard_optimizer_over_data"] = s.zero_stage == 1
    if s.pp > 1:
        keys["num_layers_per_pipeline_stage"] = case.stage_layers[0]
        keys["num_pipeline_repeats"] = s.virtual_stages
        keys["num_pipeline_microbatches"] = s.num_micro_batches
    return keys


def _training(case: ExportCase) -> dict[str, Any]:
    s, train, optimizer = case.strategy, case.train, case.train.optimizer
    dtype, matmul, quantization = _PRECISION[s.precision]
    constant = optimizer.schedule is ScheduleKind.CONSTANT
    moved = s.offload is Offload.ACTIVATIONS
    return {
        "per_device_batch_size": _per_device(case),
        "gradient_accumulation_steps": 1 if s.pp > 1 else s.num_micro_batches,
        "max_target_length": train.sequence_length,
        "steps": train.num_steps,
        "dtype": dtype,
        "weight_dtype": "float32",
        "matmul_precision": matmul,
        "quantization": quantization,
        "remat_policy": "minimal_offloaded" if moved else _REMAT[s.recompute],
        "optimizer_memory_host_offload": s.offload is Offload.OPTIMIZER,
        "opt_type": "adamw",
        "learning_rate": optimizer.learning_rate,
        "learning_rate_final_fraction": 1.0 if constant else optimizer.final_learning_rate_frac,
        "warmup_steps_fraction": min(1.0, optimizer.warmup_steps / train.num_steps),
        "adam_b1": optimizer.beta1,
        "adam_b2": optimizer.beta2,
        "adam_eps": optimizer.epsilon,
        "adam_weight_decay": optimizer.weight_decay,
        "gradient_clipping_threshold": optimizer.clip_norm,
        "data_shuffle_seed": train.seed,
    }


def _write(case: ExportCase) -> Written:
    tree = {
        "base_config": "base.yml",
        "run_name": case.name,
        "model_name": "default",
        "hardware": str(case.device_kind),
        **_model(case.model),
        **_parallelism(case),
        **_training(case),
    }
    launch = Launch(argv=("python3", "-m", "maxtext.trainers.pre_train.train", "maxtext.yml"))
    config = ExportFile(name="maxtext.yml", text=documents.to_yaml(tree))
    return Written(files=(config, documents.start_script(launch, case.shape.num_nodes)), launch=launch)


_SPLIT = ("num_layers_per_pipeline_stage", "num_pipeline_repeats")
_RULES = (
    Rule(dimension=Dimension.DP, keys=("ici_data_parallelism", "dcn_data_parallelism")),
    Rule(dimension=Dimension.FSDP, keys=("ici_fsdp_parallelism", "dcn_fsdp_parallelism"), limits="with ep: fsdp / ep"),
    Rule(
        dimension=Dimension.ZERO_STAGE,
        keys=("shard_optimizer_over_data", "ici_fsdp_parallelism"),
        limits="0; 1 with dp and ep 1; 3",
        refuse=_no_zero,
    ),
    Rule(dimension=Dimension.TP, keys=("ici_tensor_parallelism", "ici_tensor_sequence_parallelism")),
    Rule(dimension=Dimension.SEQUENCE_PARALLEL, keys=("ici_tensor_sequence_parallelism",)),
    Rule(dimension=Dimension.CP, keys=("ici_context_parallelism", "dcn_context_parallelism")),
    Rule(dimension=Dimension.PP, keys=("ici_pipeline_parallelism", "dcn_pipeline_parallelism")),
    Rule(
        dimension=Dimension.VIRTUAL_STAGES,
        keys=("num_pipeline_repeats",),
        limits="1 without a pipeline",
        refuse=_no_virtual,
    ),
    Rule(
        dimension=Dimension.SCHEDULE,
        keys=("num_pipeline_repeats",),
        limits="gpipe; interleaved with virtual_stages above 1",
        refuse=_no_schedule,
        remark=_interleaved_words,
    ),
    Rule(
        dimension=Dimension.EP,
        keys=("ici_expert_parallelism", "dcn_expert_parallelism"),
        limits="a model with experts; divides fsdp",
        refuse=_no_experts,
    ),
    Rule(dimension=Dimension.ETP, keys=("ici_tensor_parallelism",), limits="tp with experts, else 1", refuse=_no_expert_tensor),
    Rule(dimension=Dimension.MICRO_BATCH, keys=("per_device_batch_size",), limits="exact", refuse=_no_fraction),
    Rule(
        dimension=Dimension.NUM_MICRO_BATCHES,
        keys=("gradient_accumulation_steps", "num_pipeline_microbatches"),
        limits="with a pipeline a multiple of pp",
        refuse=_no_micro_batches,
    ),
    Rule(dimension=Dimension.RECOMPUTE, keys=("remat_policy",)),
    Rule(
        dimension=Dimension.PRECISION,
        keys=("dtype", "matmul_precision", "quantization"),
        limits="bf16, fp32, fp8, mxfp8, nvfp4",
        refuse=lambda c: "" if c.strategy.precision in _PRECISION else f"{c.strategy.precision}",
    ),
    Rule(
        dimension=Dimension.OFFLOAD,
        keys=("optimizer_memory_host_offload", "remat_policy"),
        limits="none; optimizer; activations with selective recompute",
        refuse=_no_offload,
    ),
    Rule(dimension=Dimension.STAGE_LAYERS, keys=_SPLIT, limits="equal stages", refuse=_no_split),
)

MAXTEXT = TargetRules(
    target=ExportTarget.MAXTEXT,
    version="MaxText e591f30c (2026-08-22)",
    rules=_RULES,
    beyond=_beyond,
    remarks=lambda _case: ("data, tokenizer and output folder are yours: dataset_type, tokenizer_path, base_output_directory",),
    write=_write,
)
