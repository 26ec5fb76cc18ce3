"""Target ``torchtitan``: a job file in TOML, and a model flavour where torchtitan has none of these sizes.

Facts are those of torchtitan 0.2.2: ``config/job_config.py`` (keys), ``train.py`` (batches: the local batch is what a data rank
passes at once, through the pipeline in parts of ``pipeline_parallel_microbatch_size``; the rest is accumulated),
``distributed/parallel_dims.py`` and ``models/llama3/infra/parallelize.py`` (which degrees go together).
"""

from __future__ import annotations

from typing import Any

from planner.export import documents
from planner.export.models import is_adamw, is_expert
from planner.export.torchtitan_model import MODULE, beyond_flavours, built_in, flavour_module
from planner.export.types import Dimension, ExportCase, ExportFile, ExportTarget, Launch, Rule, TargetRules, Written
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute
from trimtab.workload import ScheduleKind

_PRECISIONS = (Precision.BF16, Precision.FP32, Precision.FP8, Precision.MXFP8)
_SCHEDULES = {
    PipelineSchedule.ONE_F_ONE_B: "1F1B",
    PipelineSchedule.GPIPE: "GPipe",
    PipelineSchedule.INTERLEAVED: "Interleaved1F1B",
    PipelineSchedule.ZERO_BUBBLE: "InterleavedZeroBubble",
}
_LOOPED = (PipelineSchedule.INTERLEAVED, PipelineSchedule.ZERO_BUBBLE)
_SPLIT = "parallelism.module_fqns_per_model_part"


def _shards(case: ExportCase) -> bool:
    """torchtitan shards parameters over fsdp and context ranks together."""
    return case.strategy.fsdp * case.strategy.cp > 1


def _no_ddp(case: ExportCase) -> str:
    s = case.strategy
    plain = s.dp > 1 and not _shards(case) and s.tp * s.pp > 1
    return f"dp {s.dp} beside tp {s.tp} and pp {s.pp}: replicas that are not sharded go with no other degree" if plain else ""


def _no_zero_1(case: ExportCase) -> str:
    return "ZeRO stage 1: FSDP2 shards gradients too" if case.strategy.zero_stage == 1 else ""


def _context_shards(case: ExportCase) -> str:
    s = case.strategy
    return f"parameters are sharded over the {s.cp} context ranks as well" if s.cp > 1 else ""


def _no_odd_context(case: ExportCase) -> str:
    s, length = case.strategy, case.train.sequence_length
    parts = s.tp * (2 * s.cp if s.cp > 1 else 1)
    return f"tp {s.tp} and cp {s.cp} cut a sequence in {parts} parts, which do not divide {length}" if length % parts else ""


def _always_sequence(case: ExportCase) -> str:
    s = case.strategy
    return (
        "tensor ranks always share the sequence too; the plan did not count on it" if s.tp > 1 and not s.sequence_parallel else ""
    )


def _no_virtual(case: ExportCase) -> str:
    s = case.strategy
    single = s.schedule not in _LOOPED
    return f"{s.virtual_stages} virtual stages with the schedule {s.schedule}" if single and s.virtual_stages > 1 else ""


def _no_rounds(case: ExportCase) -> str:
    s = case.strategy
    if s.pp == 1 or s.schedule not in _LOOPED:
        return ""
    rounds = max(1, s.num_micro_batches // s.pp)
    return f"{s.num_micro_batches} micro-batches are no multiple of {rounds} rounds" if s.num_micro_batches % rounds else ""


def _no_ep(case: ExportCase) -> str:
    s = case.strategy
    if s.ep > 1 and not is_expert(case.model):
        return f"expert parallel {s.ep} of a model without experts"
    return ""


def _no_etp(case: ExportCase) -> str:
    s = case.strategy
    if s.ep == 1 and is_expert(case.model) and s.etp != s.tp:
        return f"etp {s.etp} without expert parallelism: experts are then cut by tp {s.tp}"
    return f"etp {s.etp} beside tp {s.tp}" if s.etp not in (1, s.tp) or (s.etp > 1 and not is_expert(case.model)) else ""


def _no_precision(case: ExportCase) -> str:
    s = case.strategy
    if s.precision not in _PRECISIONS:
        return f"{s.precision}"
    if s.precision is not Precision.FP32 and not _shards(case) and s.tp * s.pp > 1:
        return f"{s.precision} with tp {s.tp} and pp {s.pp} but neither fsdp nor cp: mixed precision comes with FSDP"
    return ""


def _recompute_words(case: ExportCase) -> str:
    selective = case.strategy.recompute is Recompute.SELECTIVE
    return (
        "selective recompute is torchtitan's by operation: it keeps every second matrix product and attention"
        if selective
        else ""
    )


def _parallelism(case: ExportCase) -> dict[str, Any]:
    s = case.strategy
    keys: dict[str, Any] = {
        "data_parallel_replicate_degree": s.dp,
        "data_parallel_shard_degree": s.fsdp,
        "fsdp_reshard_after_forward": "never" if s.zero_stage == 2 else "always",
        "tensor_parallel_degree": s.tp,
        "context_parallel_degree": s.cp,
        "expert_parallel_degree": s.ep,
        "expert_tensor_parallel_degree": s.etp if s.ep > 1 else 1,
        "pipeline_parallel_degree": s.pp,
    }
    if s.pp > 1:
        keys["pipeline_parallel_schedule"] = _SCHEDULES[s.schedule]
        keys["pipeline_parallel_microbatch_size"] = s.micro_batch
        keys["module_fqns_per_model_part"] = _stages(case)
    return keys


def _stages(case: ExportCase) -> list[list[str]]:
    """The modules of every stage, in the order of the model."""
    first, parts = 0, []
    for layers in case.stage_layers:
        parts.append([f"layers.{index}" for index in range(first, first + layers)])
        first += layers
    parts[0].insert(0, "tok_embeddings")
    parts[-1] += ["norm", "output"]
    return parts


def _training(case: ExportCase) -> dict[str, Any]:
    s, train = case.strategy, case.train
    return {
        "local_batch_size": s.micro_batch * (s.num_micro_batches if s.pp > 1 else 1),
        "global_batch_size": s.global_batch,
        "seq_len": train.sequence_length,
        "steps": train.num_steps,
        "max_norm": train.optimizer.clip_norm or 1e30,
        "dtype": "float32",
        "mixed_precision_param": "float32" if s.precision is Precision.FP32 else "bfloat16",
        "mixed_precision_reduce": "float32",
        "enable_cpu_offload": False,
    }


def _schedule(case: ExportCase) -> dict[str, Any]:
    optimizer = case.train.optimizer
    constant = optimizer.schedule is ScheduleKind.CONSTANT
    return {
        "warmup_steps": optimizer.warmup_steps,
        "decay_type": "cosine" if optimizer.schedule is ScheduleKind.COSINE else "linear",
        "min_lr_factor": 1.0 if constant else optimizer.final_learning_rate_frac,
    }


def _quantize(case: ExportCase) -> dict[str, Any]:
    if case.strategy.precision is Precision.FP8:
        return {"linear": {"float8": {"recipe_name": "tensorwise", "filter_fqns": ["output"]}}}
    return {"linear": {"mx": {"recipe_name": "mxfp8_cublas", "filter_fqns": ["output"]}}}


def _write(case: ExportCase) -> Written:
    s, optimizer = case.strategy, case.train.optimizer
    name, flavor = built_in(case.model)
    converters = {Precision.FP8: ["quantize.linear.float8"], Precision.MXFP8: ["quantize.linear.mx"]}.get(s.precision, [])
    tree: dict[str, Any] = {
        "job": {"description": case.name, "dump_folder": "./outputs"},
        "model": {"name": name, "flavor": flavor or case.model.name, "converters": converters},
        "optimizer": {
            "name": "AdamW",
            "lr": optimizer.learning_rate,
            "beta1": optimizer.beta1,
            "beta2": optimizer.beta2,
            "eps": optimizer.epsilon,
            "weight_decay": optimizer.weight_decay,
        },
        "lr_scheduler": _schedule(case),
        "training": _training(case),
        "parallelism": _parallelism(case),
        "activation_checkpoint": {"mode": str(s.recompute), "selective_ac_option": "op"},
        "debug": {"seed": case.train.seed},
    }
    if converters:
        tree["quantize"] = _quantize(case)
    files: tuple[ExportFile, ...] = ()
    if not flavor:
        tree["experimental"] = {"custom_import": MODULE}
        files = (ExportFile(name=f"{MODULE}.py", text=flavour_module(case.model)),)
    shape = case.shape
    head = documents.torchrun(shape.num_nodes, shape.devices_per_node, address=case.main_address, port=case.main_port)
    launch = Launch(
        argv=(*head, "-m", "torchtitan.train", "--job.config_file", "torchtitan.toml"), environment={"PYTHONPATH": "."}
    )
    config = ExportFile(name="torchtitan.toml", text=documents.to_toml(tree))
    return Written(files=(config, *files, documents.start_script(launch, shape.num_nodes)), launch=launch)


def _beyond(case: ExportCase) -> tuple[str, ...]:
    optimizer = () if is_adamw(case) else ("the optimizer sgd",)
    return (*beyond_flavours(case.model), *optimizer)


_RULES = (
    Rule(
        dimension=Dimension.DP,
        keys=("parallelism.data_parallel_replicate_degree",),
        limits="dp above 1 alone, or with fsdp or cp above 1",
        refuse=_no_ddp,
    ),
    Rule(dimension=Dimension.FSDP, keys=("parallelism.data_parallel_shard_degree",)),
    Rule(
        dimension=Dimension.ZERO_STAGE,
        keys=("parallelism.fsdp_reshard_after_forward",),
        limits="0; 2 (never) and 3 (always)",
        refuse=_no_zero_1,
        remark=_context_shards,
    ),
    Rule(dimension=Dimension.TP, keys=("parallelism.tensor_parallel_degree",)),
    Rule(
        dimension=Dimension.SEQUENCE_PARALLEL,
        keys=("parallelism.tensor_parallel_degree",),
        limits="always on with tp above 1",
        remark=_always_sequence,
    ),
    Rule(
        dimension=Dimension.CP,
        keys=("parallelism.context_parallel_degree",),
        limits="tp, with cp above 1 tp x 2 x cp, divides the sequence",
        refuse=_no_odd_context,
    ),
    Rule(dimension=Dimension.PP, keys=("parallelism.pipeline_parallel_degree",)),
    Rule(
        dimension=Dimension.VIRTUAL_STAGES,
        keys=(_SPLIT,),
        limits="above 1 with the schedules interleaved and zero-bubble",
        refuse=_no_virtual,
    ),
    Rule(dimension=Dimension.SCHEDULE, keys=("parallelism.pipeline_parallel_schedule",)),
    Rule(dimension=Dimension.EP, keys=("parallelism.expert_parallel_degree",), limits="a model with experts", refuse=_no_ep),
    Rule(
        dimension=Dimension.ETP,
        keys=("parallelism.expert_tensor_parallel_degree",),
        limits="1 or tp; tp where ep is 1",
        refuse=_no_etp,
    ),
    Rule(
        dimension=Dimension.MICRO_BATCH,
        keys=("training.local_batch_size", "parallelism.pipeline_parallel_microbatch_size"),
    ),
    Rule(
        dimension=Dimension.NUM_MICRO_BATCHES,
        keys=("training.global_batch_size", "training.local_batch_size"),
        limits="with a looped schedule a multiple of its rounds",
        refuse=_no_rounds,
    ),
    Rule(
        dimension=Dimension.RECOMPUTE,
        keys=("activation_checkpoint.mode", "activation_checkpoint.selective_ac_option"),
        remark=_recompute_words,
    ),
    Rule(
        dimension=Dimension.PRECISION,
        keys=("training.mixed_precision_param", "model.converters", "quantize.linear"),
        limits="fp32; bf16, fp8 and mxfp8 (both beside bf16), with fsdp or cp above 1 where tp or pp is",
        refuse=_no_precision,
    ),
    Rule(
        dimension=Dimension.OFFLOAD,
        keys=(),
        limits="none: training.enable_cpu_offload moves parameters and gradients too",
        refuse=lambda c: f"{c.strategy.offload} offload" if c.strategy.offload is not Offload.NONE else "",
    ),
    Rule(dimension=Dimension.STAGE_LAYERS, keys=(_SPLIT,)),
)

TORCHTITAN = TargetRules(
    target=ExportTarget.TORCHTITAN,
    version="torchtitan 0.2.2",
    rules=_RULES,
    beyond=_beyond,
    remarks=lambda _case: ("data set and tokenizer are torchtitan's: set training.dataset and model.hf_assets_path",),
    write=_write,
)
