"""From a published row to what the training cost model is asked: every strategy that the row may have run.

A row that does not say what it recomputed, or its micro-batch, has several options; whoever predicts takes the fastest that fits.
Device figures are those of the file of points, not of the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from benchmarks._point_types import HardwareFacts, RowInput
from planner.strategies.table import OFFLOADS, PRECISIONS, RECOMPUTES, SCHEDULES, StrategyTable
from planner.training.layers import ModelArrays, joined, model_arrays
from planner.training.places import FALLBACKS, PlaceArrays, joined_places
from planner.training.profiles import Profile, profile_of
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute

PROFILE_OF = {
    "megatron-lm": "megatron",
    "nemo-megatron": "nemo",
    "megascale": "nemo",
    "primus": "nemo",
    "megatron-bridge": "megatron-bridge",
    "megatron-deepspeed": "deepspeed",
    "megatron-deepspeed (sailor fork)": "deepspeed-fork",
    "composer-fsdp": "composer-fsdp",
    "flash-attn training": "composer-fsdp",
    "torchtitan": "torchtitan",
    "maxtext": "maxtext",
    "levanter": "maxtext",
    "maxtext-gpu": "maxtext-gpu",
}
"""Profile of the cost model for each framework that the file names; any other, and none, is ``generic``."""
_PRECISIONS = {
    "bf16": Precision.BF16,
    "fp16": Precision.FP16,
    "fp8": Precision.FP8,
    "int8": Precision.FP8,
    "mxfp8": Precision.MXFP8,
    "nvfp4": Precision.NVFP4,
}
_RECOMPUTES = {
    "none": (Recompute.NONE, Offload.NONE),
    "selective": (Recompute.SELECTIVE, Offload.NONE),
    "full": (Recompute.FULL, Offload.NONE),
    "custom-offload": (Recompute.SELECTIVE, Offload.ACTIVATIONS),
    "qkv_proj_offloaded": (Recompute.SELECTIVE, Offload.ACTIVATIONS),
}
_MICRO_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_TPU_NETWORK = 6.25e9
_DEFAULT_NETWORK = 25e9
_HOST_LINK = 25e9
_GIB = float(1 << 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One strategy that a row may have run; ``values`` are the fields of a ``StrategyTable``, in their order."""

    row: int
    profile: Profile
    device: str
    precision: Precision
    values: tuple[int, ...]
    place: PlaceArrays
    halves_gradients: bool
    stage_layers: float | None
    global_batch: int


class UnusableRowError(ValueError):
    """A row that no strategy can stand for; the text names the rule."""


def options_of(index: int, row: RowInput) -> list[Option]:
    """Every strategy that the row may have run. Raises UnusableRowError where something is missing, illegal or unknown."""
    profile = _profile(row)
    precision = _PRECISIONS.get(row.precision or ("bf16" if profile.name != "deepspeed-fork" else "fp16"))
    if precision is None:
        raise UnusableRowError(f"precision: {row.precision} is not known")
    global_batch = row.global_batch or (row.micro_batch or 1) * (row.dp or 1) * 8
    degrees = _Degrees.of(row, global_batch, profile)
    place = place_of(row)
    pure = row.mixed_precision_mode == "PURE" or (profile.name == "deepspeed" and precision is Precision.FP16)
    found = []
    for micro_batch in _micro_batches(row, global_batch, degrees.dp):
        for recompute, offload in _recomputes(row):
            found.append(
                Option(
                    row=index,
                    profile=profile,
                    device=row.hardware.key,
                    precision=precision,
                    values=degrees.values(micro_batch, global_batch, recompute, offload, precision),
                    place=place,
                    halves_gradients=pure,
                    stage_layers=_longest(row),
                    global_batch=global_batch,
                )
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Degrees:
    """Degrees of parallelism as the table has them."""

    dp: int
    replicas: int
    fsdp: int
    zero: int
    tp: int
    sequence_parallel: bool
    cp: int
    pp: int
    chunks: int
    ep: int
    etp: int

    @classmethod
    def of(cls, row: RowInput, global_batch: int, profile: Profile) -> _Degrees:
        tp, pp, cp = row.tp or 1, row.pp or 1, row.cp
        dp = row.dp or max(1, row.devices // (tp * pp * cp))
        if global_batch < dp and row.micro_batch is None:
            # The source leaves the split open, and so many replicas would have no sample: sequences are cut instead.
            cp, dp = cp * dp // global_batch, global_batch
        zero = row.zero or 0
        fsdp = (row.fsdp_size or dp) if zero else 1
        if dp % fsdp:
            fsdp = dp
        parallel = row.sequence_parallel if row.sequence_parallel is not None else profile.sequence_parallel
        return cls(
            dp=dp,
            replicas=dp // fsdp,
            fsdp=fsdp,
            zero=zero if fsdp * cp > 1 else 0,
            tp=tp,
            sequence_parallel=bool(parallel) and tp > 1,
            cp=cp,
            pp=pp,
            chunks=row.vpp or 1,
            ep=row.ep,
            etp=row.etp or (tp if profile.expert_tp_follows and row.has_experts else 1),
        )

    def values(
        self, micro_batch: int, global_batch: int, recompute: Recompute, offload: Offload, precision: Precision
    ) -> tuple[int, ...]:
        schedule = PipelineSchedule.INTERLEAVED if self.chunks > 1 else PipelineSchedule.ONE_F_ONE_B
        named = {
            "dp": self.replicas,
            "fsdp": self.fsdp,
            "zero_stage": self.zero,
            "tp": self.tp,
            "sequence_parallel": int(self.sequence_parallel),
            "cp": self.cp,
            "pp": self.pp,
            "virtual_stages": self.chunks,
            "schedule": SCHEDULES.index(schedule),
            "ep": self.ep,
            "etp": self.etp,
            "micro_batch": micro_batch,
            "num_micro_batches": max(1, global_batch // max(1, micro_batch * self.dp)),
            "recompute": RECOMPUTES.index(recompute),
            "offload": OFFLOADS.index(offload),
            "precision": PRECISIONS.index(precision),
        }
        return tuple(named[field.name] for field in fields(StrategyTable))


def table_of(options: Sequence[Option]) -> StrategyTable:
    """The strategies of some options."""
    columns = np.array([option.values for option in options], dtype=np.int64).T
    return StrategyTable(**{field.name: column for field, column in zip(fields(StrategyTable), columns, strict=True)})


def models_of(options: Sequence[Option], rows: Sequence[RowInput]) -> ModelArrays:
    """The model of each option, side by side."""
    return joined([model_arrays(rows[option.row].model) for option in options])


def places_of(options: Sequence[Option]) -> PlaceArrays:
    """The place of each option, side by side."""
    return joined_places([option.place for option in options])


def place_of(row: RowInput) -> PlaceArrays:
    """Where a row ran."""
    facts = row.hardware
    if facts.bf16_tflops is None:
        raise UnusableRowError(f"hardware: no peak is known of {facts.key}")
    per_node = row.placement[0] if row.placement else row.devices_per_node
    if facts.is_tpu:
        link = (facts.ici_gbs_per_link_oneway or 100.0) * (facts.ici_links or 4) * 1e9
        network = _TPU_NETWORK
        domain = row.chips_per_slice or row.devices // (row.slices or 1)
    else:
        link = (facts.intra_gbs_per_dir or 450.0) * 1e9
        network = _network(row, facts)
        domain = min(facts.nvlink_domain, row.devices) if facts.nvlink_domain else per_node

    def single(value: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([float(value)])

    return PlaceArrays(
        peak=np.array([[_peak(facts, precision) * 1e12] for precision in PRECISIONS]),
        half_peak=single(facts.bf16_tflops * 1e12),
        memory_bytes=single((facts.hbm_gb or 0.0) * _GIB),
        memory_bandwidth=single((facts.hbm_gbs or 2039.0) * 1e9),
        link=single(link),
        network=single(network),
        host_link=single(_HOST_LINK),
        domain=single(domain),
        devices_per_node=single(per_node),
        is_tpu=single(facts.is_tpu),
    )


def _profile(row: RowInput) -> Profile:
    name = PROFILE_OF.get(row.framework or "", "generic")
    if name == "megatron" and row.precision == "fp16":
        name = "megatron-2021"
    return profile_of(name)


def _peak(facts: HardwareFacts, precision: Precision) -> float:
    assert facts.bf16_tflops is not None
    half = facts.bf16_tflops
    known = {
        Precision.BF16: half,
        Precision.FP16: half,
        Precision.FP8: facts.fp8_tflops or facts.int8_tops,
        Precision.NVFP4: facts.nvfp4_tflops,
        Precision.TF32: half / 2.0,
        Precision.FP32: half / 2.0,
        Precision.FP64: half / 2.0,
    }
    for candidate in (precision, *FALLBACKS[precision]):
        found = known.get(candidate)
        if found is not None:
            return found
    return half


def _network(row: RowInput, facts: HardwareFacts) -> float:
    """Bytes per second of one device, from the row's own words or the device's usual network."""
    text = row.network or ""
    found = re.match(r"(?:(\d+)x )?[A-Za-z- ]*(\d+) (Gb/s|GB/s)", text)
    if found:
        rate = float(found.group(2)) * int(found.group(1) or 1) / (8.0 if found.group(3) == "Gb/s" else 1.0)
        return rate / row.devices_per_node * 1e9
    if "TCPX" in text:
        # Google's A3 machines: four 200 Gbit/s cards for eight devices.
        return 12.5e9
    return facts.inter_gbs_per_dir * 1e9 if facts.inter_gbs_per_dir else _DEFAULT_NETWORK


def _micro_batches(row: RowInput, global_batch: int, replicas: int) -> Iterator[int]:
    if row.micro_batch is not None:
        yield row.micro_batch
        return
    fitting = [size for size in _MICRO_BATCHES if global_batch % (size * replicas) == 0]
    yield from fitting or [1]


def _recomputes(row: RowInput) -> Sequence[tuple[Recompute, Offload]]:
    if row.recompute is None:
        return [_RECOMPUTES[name] for name in ("none", "selective", "full")]
    if row.recompute not in _RECOMPUTES:
        raise UnusableRowError(f"recompute: {row.recompute} is not known")
    return [_RECOMPUTES[row.recompute]]


def _longest(row: RowInput) -> float | None:
    """Layers of the longest stage where the row names them; embedding and head may be counted as layers at the ends."""
    if not row.layers_per_stage:
        return None
    layers = list(row.layers_per_stage)
    beyond = sum(layers) - row.model.num_layers
    if beyond == 2:
        layers[0], layers[-1] = layers[0] - 1, layers[-1] - 1
    return float(max(layers))
