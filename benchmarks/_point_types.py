"""Published measurements of training steps: what a planner may see of each, and apart from it what was measured.

``RowInput`` holds the model's shape, the devices and how the job was split, and nothing of who published it or of what came out.
``RowTruth`` holds the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.model import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareFacts:
    """What the file says of a device type; None where it does not. Rates are the vendor's peaks.

    ``*_tflops`` and ``int8_tops``: 1e12 operations per s; ``hbm_gb``: 1e9 bytes; ``*_gbs``: 1e9 bytes per s, links and fabrics
    per device and direction. ``vendor`` is nvidia, amd or google.
    """

    key: str
    vendor: str | None
    bf16_tflops: float | None
    fp8_tflops: float | None
    nvfp4_tflops: float | None
    int8_tops: float | None
    hbm_gb: float | None
    hbm_gbs: float | None
    intra_gbs_per_dir: float | None
    inter_gbs_per_dir: float | None
    ici_gbs_per_link_oneway: float | None
    ici_links: int | None
    devices_per_node: int | None
    nvlink_domain: int | None

    @property
    def is_tpu(self) -> bool:
        """Whether the devices are TPU chips."""
        return self.vendor == "google"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaInput:
    """One data-parallel replica of a stage of a job on several device types."""

    device: str
    tp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageInput:
    """One pipeline stage of a job on several device types; ``layers`` as the source counts them."""

    layers: int
    replicas: tuple[ReplicaInput, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowInput:
    """Everything that a planner may see of a row. None: the source does not say (``recompute``, ``precision``: 'unknown' there).

    ``devices`` are chips, ``seq_len`` tokens, ``micro_batch`` sequences per replica and pass, ``global_batch`` sequences
    per step. ``placement`` is the number of devices used on each node; ``pool`` the number of devices of each type, with
    ``stages``, of a job on several types, whose ``hardware.key`` is 'heterogeneous'. ``etp`` is the expert-tensor degree. Words
    (``precision``, ``recompute``, ``framework``, ``overlap``, ``network`` ...) stand as in the file: whoever predicts decides
    which it knows.
    """

    model: ModelSpec
    hardware: HardwareFacts
    devices: int
    devices_per_node: int
    placement: tuple[int, ...] | None
    seq_len: int
    tp: int | None
    pp: int | None
    dp: int | None
    cp: int
    ep: int
    etp: int | None
    vpp: int | None
    fsdp_size: int | None
    dp_replicas: int | None
    micro_batch: int | None
    global_batch: int | None
    precision: str | None
    mixed_precision_mode: str | None
    amp: str | None
    recompute: str | None
    remat_policy: str | None
    zero: int | None
    framework: str | None
    sequence_parallel: bool | None
    overlap: str | None
    async_tp: bool | None
    compile: bool | None
    network: str | None
    slices: int | None
    chips_per_slice: int | None
    layers_per_stage: tuple[int, ...] | None
    pp_schedule: str | None
    mtp: bool | None
    pool: tuple[tuple[str, int], ...] | None
    stages: tuple[StageInput, ...] | None

    @property
    def is_mixed(self) -> bool:
        """Whether the job runs on devices of several types."""
        return self.pool is not None or self.stages is not None

    @property
    def has_experts(self) -> bool:
        """Whether the model is a mixture of experts."""
        return any(stack.feed_forward.experts is not None for stack in self.model.stacks)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTruth:
    """Where a row comes from and what was measured; ``step_s`` is None where no step time can be had from the row.

    ``publisher`` is the first word of the source's entry. ``step_from_flops_s`` is what
    the printed FLOP/s mean by their convention. ``memory_gib`` is peak allocated memory of a device in GiB;
    ``memory_gb_reported`` the same in a unit printed as GB. ``competitor_*`` are another system's predictions of the same row.
    """

    id: str
    source: str
    publisher: str
    model_name: str
    hardware: str
    framework: str
    tag: str
    suspect: bool
    sweep_group: str | None
    step_s: float | None
    step_from_flops_s: float | None
    tokens_per_s_per_device: float | None
    memory_gib: float | None
    memory_gb_reported: float | None
    out_of_memory: bool
    competitor: str | None
    competitor_step_s: float | None
    competitor_memory_gib: float | None

    @property
    def group(self) -> tuple[str, str, str]:
        """The calibration group."""
        return (self.publisher, self.hardware, self.framework)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement: what is seen, and what was measured."""

    input: RowInput
    truth: RowTruth


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """A file of points. ``memory_rows`` were measured for their memory alone: peaks and runs out of memory."""

    rows: tuple[Row, ...]
    memory_rows: tuple[Row, ...]
