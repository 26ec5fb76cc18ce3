"""How one training gang splits its work: the degrees of parallelism, batch, precision and recompute."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """Number format of the matrix multiplications. Parameters and optimizer state follow ``docs/strategies.md``."""

    FP64 = "fp64"
    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    MXFP8 = "mxfp8"
    NVFP4 = "nvfp4"


class Recompute(StrEnum):
    """Which activations are computed again in the backward pass."""

    NONE = "none"
    SELECTIVE = "selective"
    FULL = "full"


class Offload(StrEnum):
    """What is kept in the host's memory while it is not needed."""

    NONE = "none"
    OPTIMIZER = "optimizer"
    ACTIVATIONS = "activations"


class PipelineSchedule(StrEnum):
    """Order of forward and backward passes over the pipeline stages."""

    ONE_F_ONE_B = "1f1b"
    GPIPE = "gpipe"
    INTERLEAVED = "interleaved"
    ZERO_BUBBLE = "zero-bubble"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One way to train a model on ``world_size`` ranks (one rank per device).

    ``dp`` replicas of the sharded model, each over ``fsdp`` ranks that shard state as ``zero_stage`` says (0 none, 1 optimizer,
    2 and gradients, 3 and parameters); ``tp`` tensor, ``cp`` context, ``pp`` pipeline degree. Experts are
    spread over ``ep`` of the ranks of a pipeline stage, each cut by ``etp``: ep x etp divides dp x fsdp x cp x tp.
    Rank order from the inside out: tp, cp, fsdp, dp, pp. A step has ``num_micro_batches`` micro-batches of ``micro_batch``
    samples
    on each data rank, so the global batch is ``micro_batch * num_micro_batches * dp * fsdp``.
    """

    dp: int = 1
    fsdp: int = 1
    zero_stage: int = 0
    tp: int = 1
    sequence_parallel: bool = False
    cp: int = 1
    pp: int = 1
    virtual_stages: int = 1
    schedule: PipelineSchedule = PipelineSchedule.ONE_F_ONE_B
    ep: int = 1
    etp: int = 1
    micro_batch: int = 1
    num_micro_batches: int = 1
    recompute: Recompute = Recompute.NONE
    precision: Precision = Precision.FP32
    offload: Offload = Offload.NONE
    stage_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        degrees = (self.dp, self.fsdp, self.tp, self.cp, self.pp, self.virtual_stages, self.ep, self.etp)
        if min(degrees) < 1 or self.micro_batch < 1 or self.num_micro_batches < 1:
            raise ValueError("degrees, micro_batch and num_micro_batches must be at least 1")
        if self.zero_stage not in (0, 1, 2, 3):
            raise ValueError("zero_stage must be 0, 1, 2 or 3")
        if self.fsdp > 1 and self.zero_stage == 0:
            raise ValueError("fsdp above 1 needs a zero_stage above 0")
        if self.zero_stage > 0 and self.fsdp * self.cp == 1:
            raise ValueError("zero_stage above 0 needs fsdp or cp above 1: state is sharded over both")
        if self.stage_layers and len(self.stage_layers) != self.pp * self.virtual_stages:
            raise ValueError("stage_layers must name every pipeline stage")

    @property
    def data_ranks(self) -> int:
        """Ranks that see different samples."""
        return self.dp * self.fsdp

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.dp * self.fsdp * self.tp * self.cp * self.pp

    @property
    def global_batch(self) -> int:
        """Samples per step."""
        return self.micro_batch * self.num_micro_batches * self.data_ranks

    def label(self) -> str:
        """Short name for people: ``dp2 tp2 mb4x2``; degrees of 1 are left out."""
        parts = []
        if self.dp > 1:
            parts.append(f"dp{self.dp}")
        if self.fsdp > 1:
            parts.append(f"fsdp{self.fsdp}" if self.zero_stage == 3 else f"zero{self.zero_stage}x{self.fsdp}")
        for name, degree in (("tp", self.tp), ("cp", self.cp), ("pp", self.pp), ("ep", self.ep), ("etp", self.etp)):
            if degree > 1:
                parts.append(f"{name}{degree}")
        if not parts:
            parts.append("single")
        if self.sequence_parallel:
            parts.append("sp")
        if self.pp > 1:
            parts.append(str(self.schedule) + (f"v{self.virtual_stages}" if self.virtual_stages > 1 else ""))
        parts.append(f"mb{self.micro_batch}x{self.num_micro_batches}")
        if self.recompute is not Recompute.NONE:
            parts.append(f"re-{self.recompute}")
        if self.offload is not Offload.NONE:
            parts.append(f"off-{self.offload}")
        parts.append(str(self.precision))
        return " ".join(parts)
