"""Target ``megatron``: arguments of Megatron-LM's ``pretrain_gpt.py``.

Facts are those of Megatron-LM at core_v0.16.1: ``megatron/training/arguments.py`` (names, what goes together) and the
configuration classes of Megatron Core 0.16.1. Its data-parallel size is what the other degrees leave of the world; the
accumulation is global batch / (micro-batch x data-parallel size).
"""

from __future__ import annotations

from planner.export import documents
from planner.export.megatron_model import beyond_gpt, model_arguments
from planner.export.models import is_expert, tf32_environment
from planner.export.types import Dimension, ExportCase, ExportFile, ExportTarget, Launch, Rule, TargetRules, Written
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute
from trimtab.workload import OptimizerKind

_SEED = 1234  # Megatron's own default
_SHARDED = {2: "optim_grads", 3: "optim_grads_params"}
_RECOMPUTE = {
    Recompute.NONE: (),
    Recompute.SELECTIVE: ("--recompute-granularity", "selective", "--recompute-modules", "core_attn"),
    Recompute.FULL: ("--recompute-granularity", "full", "--recompute-method", "uniform", "--recompute-num-layers", "1"),
}
_PRECISION = {
    Precision.FP32: (),
    Precision.TF32: (),
    Precision.BF16: ("--bf16",),
    Precision.FP16: ("--fp16",),
    Precision.FP8: ("--bf16", "--fp8-format", "hybrid", "--fp8-recipe", "tensorwise"),
    Precision.MXFP8: ("--bf16", "--fp8-format", "e4m3", "--fp8-recipe", "mxfp8"),
    Precision.NVFP4: ("--bf16", "--fp4-format", "e2m1", "--fp4-recipe", "nvfp4"),
}


def _no_schedule(case: ExportCase) -> str:
    s = case.strategy
    if s.pp == 1:
        return ""
    wanted = PipelineSchedule.INTERLEAVED if s.virtual_stages > 1 else PipelineSchedule.ONE_F_ONE_B
    return f"the schedule {s.schedule} with {s.virtual_stages} virtual stages" if s.schedule is not wanted else ""


def _no_rounds(case: ExportCase) -> str:
    s = case.strategy
    odd = s.pp > 1 and s.virtual_stages > 1 and s.num_micro_batches % s.pp > 0
    return f"{s.num_micro_batches} interleaved micro-batches are no multiple of pp {s.pp}" if odd else ""


def _no_virtual(case: ExportCase) -> str:
    s = case.strategy
    return f"{s.virtual_stages} virtual stages without a pipeline" if s.pp == 1 and s.virtual_stages > 1 else ""


def _no_sequence(case: ExportCase) -> str:
    s = case.strategy
    return f"experts with tp {s.tp} and no sequence parallelism" if is_expert(case.model) and _plain_tensor(case) else ""


def _plain_tensor(case: ExportCase) -> bool:
    return case.strategy.tp > 1 and not case.strategy.sequence_parallel


def _no_zero(case: ExportCase) -> str:
    s = case.strategy
    return (
        f"ZeRO stage {s.zero_stage} with pp {s.pp}: Megatron FSDP is planned without a pipeline"
        if s.zero_stage > 1 < s.pp
        else ""
    )


def _context_shards(case: ExportCase) -> str:
    s = case.strategy
    return f"state is sharded over the {s.cp} context ranks as well" if s.cp > 1 and s.zero_stage else ""


def _no_experts(case: ExportCase) -> str:
    s = case.strategy
    return f"expert parallel {s.ep} of a model without experts" if s.ep > 1 and not is_expert(case.model) else ""


def _no_expert_tensor(case: ExportCase) -> str:
    s = case.strategy
    return f"etp {s.etp} of a model without experts" if s.etp > 1 and not is_expert(case.model) else ""


def _recompute_words(case: ExportCase) -> str:
    selective = case.strategy.recompute is Recompute.SELECTIVE
    return "selective recompute is Megatron's of core attention (arXiv 2205.05198)" if selective else ""


def _degrees(case: ExportCase) -> list[str]:
    s = case.strategy
    arguments = [
        *("--tensor-model-parallel-size", str(s.tp)),
        *("--context-parallel-size", str(s.cp)),
        *("--pipeline-model-parallel-size", str(s.pp)),
    ]
    arguments += ["--sequence-parallel"] if s.sequence_parallel else []
    if is_expert(case.model):
        arguments += ["--expert-model-parallel-size", str(s.ep), "--expert-tensor-parallel-size", str(s.etp)]
    if s.pp > 1:
        if s.virtual_stages > 1 and not s.stage_layers and case.model.num_layers % (s.pp * s.virtual_stages) == 0:
            arguments += ["--num-virtual-stages-per-pipeline-rank", str(s.virtual_stages)]
        elif s.stage_layers or case.model.num_layers % s.pp:
            arguments += ["--pipeline-model-parallel-layout", _layout(case)]
    return arguments


def _layout(case: ExportCase) -> str:
    """Layers of every stage in the order of the model: E is the embedding, t a layer, L head and loss."""
    stages = ["t" * layers for layers in case.stage_layers]
    stages[0] = "E" + stages[0]
    stages[-1] += "L"
    return "|".join(stages)


def _sharding(case: ExportCase) -> list[str]:
    s = case.strategy
    if not s.zero_stage:
        return []
    arguments = ["--use-distributed-optimizer"]
    if s.zero_stage > 1:
        arguments += ["--use-megatron-fsdp", "--data-parallel-sharding-strategy", _SHARDED[s.zero_stage]]
        arguments += ["--ckpt-format", "fsdp_dtensor", "--no-gradient-accumulation-fusion"]
    if s.dp > 1:
        arguments += ["--num-distributed-optimizer-instances", str(s.dp)]
    return arguments


def _training(case: ExportCase) -> list[str]:
    s, train, optimizer = case.strategy, case.train, case.train.optimizer
    arguments = [
        *("--seq-length", str(train.sequence_length)),
        *("--micro-batch-size", str(s.micro_batch)),
        *("--global-batch-size", str(s.global_batch)),
        *("--train-iters", str(train.num_steps)),
        *("--seed", str(train.seed or _SEED)),
        *("--clip-grad", f"{optimizer.clip_norm:g}"),
        *("--lr", f"{optimizer.learning_rate:g}"),
        *("--min-lr", f"{optimizer.learning_rate * optimizer.final_learning_rate_frac:g}"),
        *("--lr-decay-style", str(optimizer.schedule)),
        *("--lr-warmup-iters", str(optimizer.warmup_steps)),
        *("--weight-decay", f"{optimizer.weight_decay:g}"),
    ]
    if optimizer.kind is OptimizerKind.SGD:
        return [*arguments, "--optimizer", "sgd", "--sgd-momentum", f"{optimizer.momentum:g}"]
    betas = ["--adam-beta1", f"{optimizer.beta1:g}", "--adam-beta2", f"{optimizer.beta2:g}"]
    return [*arguments, "--optimizer", "adam", *betas, "--adam-eps", f"{optimizer.epsilon:g}"]


def _write(case: ExportCase) -> Written:
    s, shape = case.strategy, case.shape
    offload = ["--optimizer-cpu-offload", "--optimizer-offload-fraction", "1.0"] if s.offload is Offload.OPTIMIZER else []
    offload += ["--use-precision-aware-optimizer"] if offload else []
    arguments = [
        *model_arguments(case.model),
        *_degrees(case),
        *_sharding(case),
        *_training(case),
        *_RECOMPUTE[s.recompute],
        *_PRECISION[s.precision],
        *offload,
    ]
    head = documents.torchrun(shape.num_nodes, shape.devices_per_node, address=case.main_address, port=case.main_port)
    environment = {"CUDA_DEVICE_MAX_CONNECTIONS": "1"} if s.zero_stage < 2 else {}
    launch = Launch(argv=(*head, "pretrain_gpt.py", *arguments), environment={**environment, **tf32_environment(case)})
    lines = ExportFile(name="megatron.args", text="\n".join(_lines(arguments)) + "\n")
    return Written(files=(lines, documents.start_script(launch, shape.num_nodes)), launch=launch)


def _lines(arguments: list[str]) -> list[str]:
    """One argument with its values on each line."""
    lines: list[str] = []
    for part in arguments:
        if part.startswith("--"):
            lines.append(part)
        else:
            lines[-1] += f" {part}"
    return lines


def _offload_limit(case: ExportCase) -> str:
    s = case.strategy
    if s.offload is Offload.ACTIVATIONS:
        return "activations offload"
    sharded = s.zero_stage != 1
    return f"optimizer offload with ZeRO stage {s.zero_stage}" if s.offload is Offload.OPTIMIZER and sharded else ""


def _remarks(case: ExportCase) -> tuple[str, ...]:
    data = "data and tokenizer are yours: add --data-path and --tokenizer-type, or --mock-data"
    seed = () if case.train.seed else (f"seed 0 is {_SEED} there, where it has to be above 0",)
    return (data, *seed)


_DATA = ("--global-batch-size", "--micro-batch-size")
_RULES = (
    Rule(dimension=Dimension.DP, keys=("--num-distributed-optimizer-instances", *_DATA), limits="what the world leaves"),
    Rule(dimension=Dimension.FSDP, keys=("--use-distributed-optimizer", *_DATA), limits="what the world leaves"),
    Rule(
        dimension=Dimension.ZERO_STAGE,
        keys=("--use-distributed-optimizer", "--use-megatron-fsdp", "--data-parallel-sharding-strategy"),
        limits="0; 1 (distributed optimizer); 2 and 3 (Megatron FSDP) without a pipeline",
        refuse=_no_zero,
        remark=_context_shards,
    ),
    Rule(dimension=Dimension.TP, keys=("--tensor-model-parallel-size",)),
    Rule(
        dimension=Dimension.SEQUENCE_PARALLEL,
        keys=("--sequence-parallel",),
        limits="always with experts and tp above 1",
        refuse=_no_sequence,
    ),
    Rule(dimension=Dimension.CP, keys=("--context-parallel-size",)),
    Rule(dimension=Dimension.PP, keys=("--pipeline-model-parallel-size",)),
    Rule(
        dimension=Dimension.VIRTUAL_STAGES,
        keys=("--num-virtual-stages-per-pipeline-rank", "--pipeline-model-parallel-layout"),
        limits="1 without a pipeline",
        refuse=_no_virtual,
    ),
    Rule(
        dimension=Dimension.SCHEDULE,
        keys=("--num-virtual-stages-per-pipeline-rank",),
        limits="1f1b; interleaved with virtual_stages above 1",
        refuse=_no_schedule,
    ),
    Rule(dimension=Dimension.EP, keys=("--expert-model-parallel-size",), limits="a model with experts", refuse=_no_experts),
    Rule(
        dimension=Dimension.ETP,
        keys=("--expert-tensor-parallel-size",),
        limits="a model with experts",
        refuse=_no_expert_tensor,
    ),
    Rule(dimension=Dimension.MICRO_BATCH, keys=("--micro-batch-size",)),
    Rule(
        dimension=Dimension.NUM_MICRO_BATCHES,
        keys=_DATA,
        limits="interleaved: a multiple of pp",
        refuse=_no_rounds,
    ),
    Rule(
        dimension=Dimension.RECOMPUTE,
        keys=("--recompute-granularity", "--recompute-modules", "--recompute-method", "--recompute-num-layers"),
        remark=_recompute_words,
    ),
    Rule(
        dimension=Dimension.PRECISION,
        keys=("--bf16", "--fp16", "--fp8-format", "--fp8-recipe", "--fp4-format", "--fp4-recipe"),
        limits="all but fp64; fp8, mxfp8 and nvfp4 beside bf16; tf32 by PyTorch's variable",
        refuse=lambda c: "" if c.strategy.precision in _PRECISION else f"{c.strategy.precision}",
    ),
    Rule(
        dimension=Dimension.OFFLOAD,
        keys=("--optimizer-cpu-offload", "--optimizer-offload-fraction", "--use-precision-aware-optimizer"),
        limits="none; optimizer with ZeRO stage 1",
        refuse=_offload_limit,
    ),
    Rule(dimension=Dimension.STAGE_LAYERS, keys=("--pipeline-model-parallel-layout",)),
)

MEGATRON = TargetRules(
    target=ExportTarget.MEGATRON,
    version="Megatron-LM core_v0.16.1",
    rules=_RULES,
    beyond=lambda case: beyond_gpt(case.model),
    remarks=_remarks,
    write=_write,
)
