"""Published jobs on several device types: each replica of each stage is asked about on its own device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks._point_types import HardwareFacts, RowInput
from benchmarks._row_options import Option, UnusableRowError, models_of, options_of, places_of, table_of
from planner.training.constants import FittedConstants
from planner.training.mixed import MixedStage, MixedStep, mixed_step
from planner.training.profiles import habit_arrays
from planner.training.step import Question

_NAMES = {"RTX-3090": "rtx3090", "RTX-2080": "rtx2080ti", "Titan-RTX": "titan-rtx"}
_PCIE_GBS = 12.0
"""PCIe 3.0 x16, one way, as programs see it; cards without peer-to-peer exchange reach a share of it
(``host_exchange_share``).
"""
_CARDS = {
    # NVIDIA's data sheets: fp16 tensor peak with fp32 accumulation (TFLOP/s), memory (GiB) and its bandwidth (GB/s).
    "rtx3090": (71.0, 24.0, 936.0),
    "rtx2080ti": (53.8, 11.0, 616.0),
    "titan-rtx": (130.5, 24.0, 672.0),
}


def mixed_prediction(row: RowInput, constants: FittedConstants) -> MixedStep:
    """Time and memory of one step. Raises UnusableRowError where a device is not known."""
    assert row.stages is not None
    ends = sum(stage.layers for stage in row.stages) - row.model.num_layers
    stages = []
    for position, stage in enumerate(row.stages):
        # The source counts embedding and head as a layer each, where its numbers add up to two more than the model has.
        beyond = (position == 0) + (position == len(row.stages) - 1) if ends == 2 else 0
        layers = float(stage.layers - beyond)
        questions = tuple(_question(row, replica.device, layers, constants) for replica in stage.replicas)
        stages.append(MixedStage(replicas=questions))
    return mixed_step(stages)


def facts_of(name: str, exchange_share: float) -> HardwareFacts:
    """Figures of a card by the name that the source uses; its ranks reach ``exchange_share`` of PCIe."""
    key = _NAMES.get(name, name)
    if key not in _CARDS:
        raise UnusableRowError(f"hardware: {name} is not known")
    peak, memory, bandwidth = _CARDS[key]
    return HardwareFacts(
        key=key,
        vendor="nvidia",
        bf16_tflops=peak,
        fp8_tflops=None,
        nvfp4_tflops=None,
        int8_tops=None,
        hbm_gb=memory,
        hbm_gbs=bandwidth,
        intra_gbs_per_dir=_PCIE_GBS * exchange_share,
        inter_gbs_per_dir=None,
        ici_gbs_per_link_oneway=None,
        ici_links=None,
        devices_per_node=8,
        nvlink_domain=None,
    )


def _question(row: RowInput, device: str, layers: float, constants: FittedConstants) -> Question:
    facts = facts_of(device, constants.shared["host_exchange_share"])
    plain = replace(row, hardware=facts, pool=None, stages=None, recompute="none")
    option: Option = options_of(0, plain)[0]
    options = [option]
    return Question(
        model=models_of(options, [plain]),
        table=table_of(options),
        place=places_of(options),
        habits=habit_arrays([option.profile], is_half=[True], halves_gradients=[True]),
        knobs=constants.knobs([option.profile.name], [(option.device, str(option.precision))]),
        sequence=np.array([float(row.seq_len)]),
        source=np.zeros(1),
        stage_layers=np.array([layers]),
    )
