"""What a trainer can run. Each framework is one row of data (``profiles.py``); the legality rules read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from trimtab.builtin import beyond_builtin
from trimtab.inventory import DeviceKind
from trimtab.model import ModelFamily, ModelSpec
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute

UNLIMITED = 1 << 30
"""A degree that nothing reaches."""


class ExpertTensor(StrEnum):
    """How the tensor ranks may cut experts: not at all, not or wholly (etp 1 or tp), or by any divisor of tp."""

    NONE = "none"
    WHOLE = "whole"
    FREE = "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """The values of each dimension that a trainer runs. Fields that begin with ``max_`` are degrees.

    - ``sequence_parallel``: what it runs where tp is above 1.
    - ``pipeline_families``: the model families that it cuts into stages; ``pipeline_zero_stages``: the ZeRO stages beside a
      pipeline; ``even_stages``: stages (virtual ones too) must have equally many layers.
    - ``few_micro_batches``: its 1F1B runs with fewer micro-batches than stages, which wait.
    - ``zero_bubble_stages``: the virtual stages of its zero-bubble schedule.
    - ``group_zero_stages``: the ZeRO stages whose sharding group may be smaller than all data ranks.
    - ``max_tensor_nodes``: nodes that a tensor group may span over the network; ``tensor_over_domain``: it may span nodes that
      share one link domain, or a slice of a torus. ``repeats_kv_heads``: with fewer key-value heads than tensor ranks each is
      held several times. ``pads_vocabulary``: tensor ranks need not divide the vocabulary.
    - ``experts_over_tensor``: an expert group may take in tensor and context ranks, not data ranks alone;
      ``experts_need_sequence_parallel``: experts beside tensor parallelism only with sequence parallelism.
    - ``optimizer_offload_zero_stages``, ``activation_offload_recomputes``: what goes with an offload.
    - ``beyond`` says what it does not build of a model. ``members``: the frameworks that a union stands for.
    """

    name: str
    zero_stages: tuple[int, ...]
    schedules: tuple[PipelineSchedule, ...]
    recomputes: tuple[Recompute, ...]
    precisions: tuple[Precision, ...]
    sequence_parallel: tuple[bool, ...]
    pipeline_families: tuple[ModelFamily, ...]
    beyond: Callable[[ModelSpec], tuple[str, ...]]
    pipeline_zero_stages: tuple[int, ...]
    group_zero_stages: tuple[int, ...]
    max_tensor: int = UNLIMITED
    max_pipeline: int = UNLIMITED
    max_context: int = 1
    max_expert: int = 1
    max_virtual_stages: int = 1
    max_tensor_nodes: int = 1
    tensor_over_domain: bool = True
    even_stages: bool = False
    few_micro_batches: bool = False
    zero_bubble_stages: tuple[int, ...] = (1, 2)
    repeats_kv_heads: bool = False
    pads_vocabulary: bool = True
    expert_tensor: ExpertTensor = ExpertTensor.NONE
    experts_over_tensor: bool = False
    experts_need_sequence_parallel: bool = False
    offloads: tuple[Offload, ...] = (Offload.NONE,)
    optimizer_offload_zero_stages: tuple[int, ...] = ()
    activation_offload_recomputes: tuple[Recompute, ...] = ()
    device_kinds: tuple[DeviceKind, ...] = tuple(DeviceKind)
    members: tuple[Framework, ...] = ()


TRIMTAB = Framework(
    name="trimtab",
    zero_stages=(0, 3),
    schedules=(PipelineSchedule.ONE_F_ONE_B, PipelineSchedule.GPIPE),
    recomputes=(Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL),
    precisions=(Precision.FP64, Precision.FP32, Precision.TF32, Precision.BF16),
    sequence_parallel=(False, True),
    pipeline_families=(ModelFamily.DECODER, ModelFamily.ENCODER_DECODER),
    beyond=beyond_builtin,
    pipeline_zero_stages=(0, 3),
    group_zero_stages=(3,),
    tensor_over_domain=False,
)
