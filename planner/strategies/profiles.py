"""The frameworks that plans are made for, as data. Facts are from each project's documentation and argument checks.

[MB] NVIDIA Megatron Bridge, parallelisms guide; [MC] Megatron-Core developer guide (MoE, distributed optimizer, optimizer CPU
offload, fine-grained activation offloading, Megatron-FSDP) and the checks of ``transformer_config.py``; [TT] pytorch/torchtitan,
docs and ``parallel_dims.py``; [DS] DeepSpeed documentation and ``runtime/pipe/engine.py``; [MT] AI-Hypercomputer/maxtext, guides
and the checks of its configuration types; [CO] MosaicML Composer documentation, ``FSDPConfig``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

from planner.strategies.frameworks import TRIMTAB, UNLIMITED, ExpertTensor, Framework
from trimtab.errors import Problem, SpecError
from trimtab.inventory import DeviceKind
from trimtab.model import ModelFamily, ModelSpec
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute

_T = TypeVar("_T")
_TRANSFORMERS = (ModelFamily.DECODER, ModelFamily.ENCODER, ModelFamily.ENCODER_DECODER)
_LOW = (Precision.FP32, Precision.TF32, Precision.BF16, Precision.FP16)


def _beyond_transformers(model: ModelSpec) -> tuple[str, ...]:
    return () if model.family in _TRANSFORMERS else (f"a model of family {model.family}",)


def _beyond_decoders(model: ModelSpec) -> tuple[str, ...]:
    return () if model.family is ModelFamily.DECODER else (f"a model of family {model.family}",)


def _builds_anything(_: ModelSpec) -> tuple[str, ...]:
    return ()


MEGATRON = Framework(
    name="megatron",
    zero_stages=(0, 1, 2, 3),  # 1: distributed optimizer; 2 and 3: Megatron-FSDP [MC]
    pipeline_zero_stages=(0, 1, 2),  # ZeRO-2 beside a pipeline: arXiv 2402.15627; Megatron-FSDP's guide names no pipeline [MC]
    group_zero_stages=(1, 3),  # --num-distributed-optimizer-instances, hybrid sharding of Megatron-FSDP [MC]
    schedules=(PipelineSchedule.ONE_F_ONE_B, PipelineSchedule.INTERLEAVED),  # [MB]
    recomputes=(Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL),
    precisions=(*_LOW, Precision.FP8, Precision.MXFP8, Precision.NVFP4),
    sequence_parallel=(False, True),
    pipeline_families=_TRANSFORMERS,
    beyond=_beyond_transformers,
    max_context=UNLIMITED,
    max_expert=UNLIMITED,
    max_virtual_stages=UNLIMITED,
    max_tensor_nodes=2,
    few_micro_batches=True,  # warm-up is cut to what there is, ``schedules.py`` [MC]
    repeats_kv_heads=True,  # query groups: a multiple or a divisor of the tensor ranks [MC]
    expert_tensor=ExpertTensor.FREE,  # --expert-tensor-parallel-size [MC]
    experts_over_tensor=True,
    experts_need_sequence_parallel=True,  # [MC], MoE: tensor parallelism beside experts
    offloads=(Offload.NONE, Offload.OPTIMIZER, Offload.ACTIVATIONS),
    optimizer_offload_zero_stages=(1, 2, 3),  # works on the distributed optimizer [MC]
    activation_offload_recomputes=(Recompute.NONE, Recompute.SELECTIVE),  # fine-grained activation offloading [MC]
    device_kinds=(DeviceKind.GPU,),
)

TORCHTITAN = Framework(
    name="torchtitan",
    zero_stages=(0, 2, 3),  # replicate only; fully_shard without and with resharding after the forward pass [TT]
    pipeline_zero_stages=(0, 2, 3),
    group_zero_stages=(2, 3),  # data_parallel_replicate_degree x data_parallel_shard_degree [TT]
    schedules=tuple(PipelineSchedule),  # 1F1B, GPipe, Interleaved1F1B, ZBVZeroBubble [TT]
    zero_bubble_stages=(2,),  # ZBV has exactly two stages on a rank [torch.distributed.pipelining]
    recomputes=(Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL),
    precisions=(Precision.FP32, Precision.TF32, Precision.BF16, Precision.FP8, Precision.MXFP8),
    sequence_parallel=(True,),  # its tensor-parallel plans shard the norms along the sequence [TT]
    pipeline_families=(ModelFamily.DECODER,),
    beyond=_builds_anything,  # a model is torch code with the user's own parallelisation
    max_context=UNLIMITED,
    max_expert=UNLIMITED,
    max_virtual_stages=UNLIMITED,
    max_tensor_nodes=2,
    expert_tensor=ExpertTensor.WHOLE,  # expert_tensor_parallel_degree: 1 or the tensor degree [TT]
    experts_over_tensor=True,  # experts borrow from data_parallel_shard, context and tensor ranks [TT]
    offloads=(Offload.NONE, Offload.OPTIMIZER),  # training.enable_cpu_offload, part of FSDP [TT]
    optimizer_offload_zero_stages=(2, 3),
    device_kinds=(DeviceKind.GPU, DeviceKind.CPU),
)

DEEPSPEED = Framework(
    name="deepspeed",
    zero_stages=(0, 1, 2, 3),
    pipeline_zero_stages=(0, 1),  # its pipeline engine refuses ZeRO-2 and ZeRO-3 [DS]
    group_zero_stages=(3,),  # MiCS, hierarchical partitioning of ZeRO++ [DS]
    schedules=(PipelineSchedule.ONE_F_ONE_B,),  # TrainSchedule [DS]
    recomputes=(Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL),  # of Megatron-DeepSpeed
    precisions=_LOW,
    sequence_parallel=(False, True),
    pipeline_families=_TRANSFORMERS,
    beyond=_builds_anything,
    max_expert=UNLIMITED,
    max_tensor_nodes=2,
    few_micro_batches=True,  # TrainSchedule skips what is not there [DS]
    expert_tensor=ExpertTensor.WHOLE,  # enable_expert_tensor_parallelism [DS]
    offloads=(Offload.NONE, Offload.OPTIMIZER, Offload.ACTIVATIONS),
    optimizer_offload_zero_stages=(1, 2, 3),  # ZeRO-Offload [DS]
    activation_offload_recomputes=(Recompute.FULL,),  # cpu_checkpointing moves checkpoints [DS]
    device_kinds=(DeviceKind.GPU,),
)

MAXTEXT = Framework(
    name="maxtext",
    zero_stages=(0, 1, 3),  # axes data and fsdp; shard_optimizer_over_data [MT]
    pipeline_zero_stages=(0, 1, 3),
    group_zero_stages=(1, 3),
    schedules=(PipelineSchedule.GPIPE, PipelineSchedule.INTERLEAVED),  # circular pipeline, num_pipeline_repeats [MT]
    recomputes=(Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL),  # remat_policy [MT]
    precisions=(Precision.FP32, Precision.BF16, Precision.FP8),
    sequence_parallel=(False, True),  # axes tensor and tensor_sequence [MT]
    pipeline_families=(ModelFamily.DECODER,),
    beyond=_beyond_decoders,
    max_context=UNLIMITED,
    max_expert=UNLIMITED,
    max_virtual_stages=UNLIMITED,
    even_stages=True,  # stages x repeats x layers per stage is the number of layers [MT]
    pads_vocabulary=False,  # a sharded axis is divided evenly [MT]
    expert_tensor=ExpertTensor.WHOLE,
    offloads=(Offload.NONE, Offload.OPTIMIZER, Offload.ACTIVATIONS),  # optimizer_memory_host_offload, *_offloaded [MT]
    optimizer_offload_zero_stages=(0, 1, 3),
    activation_offload_recomputes=(Recompute.SELECTIVE,),
    device_kinds=(DeviceKind.TPU, DeviceKind.GPU),
)

COMPOSER_FSDP = Framework(
    name="composer-fsdp",
    zero_stages=(0, 2, 3),  # NO_SHARD, SHARD_GRAD_OP, FULL_SHARD [CO]
    pipeline_zero_stages=(),
    group_zero_stages=(2, 3),  # HYBRID_SHARD [CO]
    schedules=(PipelineSchedule.ONE_F_ONE_B,),
    recomputes=(Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL),  # activation_checkpointing, on chosen modules too [CO]
    precisions=(*_LOW, Precision.FP8),
    sequence_parallel=(False,),
    pipeline_families=(),
    beyond=_builds_anything,
    max_tensor=1,
    max_pipeline=1,
    max_expert=UNLIMITED,  # MegaBlocks layers over data ranks
    offloads=(Offload.NONE, Offload.ACTIVATIONS),  # activation_cpu_offload [CO]
    activation_offload_recomputes=(Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL),
    device_kinds=(DeviceKind.GPU,),
)

_ROWS = (TRIMTAB, MEGATRON, TORCHTITAN, DEEPSPEED, MAXTEXT, COMPOSER_FSDP)


def _union(values: Iterable[tuple[_T, ...]]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(value for row in values for value in row))


ANY = Framework(
    name="any",
    zero_stages=(0, 1, 2, 3),
    pipeline_zero_stages=(0, 1, 2, 3),
    group_zero_stages=(1, 2, 3),
    schedules=tuple(PipelineSchedule),
    recomputes=tuple(Recompute),
    precisions=_union(row.precisions for row in _ROWS),
    sequence_parallel=(False, True),
    pipeline_families=_TRANSFORMERS,
    beyond=_builds_anything,
    max_context=UNLIMITED,
    max_expert=UNLIMITED,
    max_virtual_stages=UNLIMITED,
    max_tensor_nodes=2,
    few_micro_batches=True,
    repeats_kv_heads=True,
    expert_tensor=ExpertTensor.FREE,
    experts_over_tensor=True,
    offloads=tuple(Offload),
    optimizer_offload_zero_stages=(0, 1, 2, 3),
    activation_offload_recomputes=tuple(Recompute),
    members=_ROWS,
)
"""What at least one framework runs: each strategy as a whole, not each of its values."""

FRAMEWORKS: Mapping[str, Framework] = MappingProxyType({row.name: row for row in (*_ROWS, ANY)})


def framework(name: str) -> Framework:
    """The framework of that name. Raises SpecError listing what is allowed."""
    try:
        return FRAMEWORKS[name]
    except KeyError:
        allowed = ", ".join(sorted(FRAMEWORKS))
        problem = Problem(path="framework", message=f"unknown framework {name!r}", allowed=allowed)
        raise SpecError([problem]) from None
