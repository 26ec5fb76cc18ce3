"""The simplest predictor: a constant share of the peak on the model's FLOPs; what any cost model has to beat.

It knows no memory, no communication, no pipeline and no kernel. The shares are round numbers for well-tuned training, set per
precision and kind of device and not fitted to any row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks._point_types import HardwareFacts, RowInput
from benchmarks._row_prediction import CalibrationRow, RowPrediction, multiplier, refuse
from planner.models.counts import sample_flops

_INTERVAL_FRAC = 0.4
_CALIBRATED_INTERVAL_FRAC = 0.2
_GPU_SHARES = {"fp16": 0.45, "bf16": 0.45, "fp8": 0.35, "mxfp8": 0.35, "nvfp4": 0.2, "int8": 0.35}
_TPU_SHARES = {"bf16": 0.6, "fp8": 0.45, "int8": 0.45}
# Forward passes that are done again in the backward pass; selective recompute repeats the attention's core alone.
_FORWARD_AGAIN = {"none": 0.0, "selective": 0.02, "full": 1.0, "custom-offload": 0.0, "qkv_proj_offloaded": 0.5}
# bf16 peaks (1e12 FLOP/s) and the chips of a pool's names: NVIDIA's data sheets of the three cards, fp16 with fp32 accumulation.
_POOL_TFLOPS = {"rtx3090": 71.0, "rtx2080ti": 53.8, "titan-rtx": 130.0}


def predict_rows(rows: Sequence[RowInput]) -> list[RowPrediction]:
    """One prediction per row, in their order."""
    return [_predict(row) for row in rows]


def calibrated(prediction: RowPrediction, multiplier_rows: Sequence[CalibrationRow]) -> RowPrediction:
    """The prediction times the group's multiplier, with the interval of a calibrated one: a constant spread around it."""
    factor = multiplier(multiplier_rows)
    step_s = prediction.step_s * factor
    low_s, high_s = step_s * (1.0 - _CALIBRATED_INTERVAL_FRAC), step_s * (1.0 + _CALIBRATED_INTERVAL_FRAC)
    return replace(prediction, step_s=step_s, low_s=low_s, high_s=high_s)


def _predict(row: RowInput) -> RowPrediction:
    if row.global_batch is None:
        return refuse("global-batch", "the sequences of a step are not known")
    peak = _pool_flops(row) if row.pool else _flops_per_s(row.hardware, row.precision or "bf16")
    share = (_TPU_SHARES if row.hardware.is_tpu else _GPU_SHARES).get(row.precision or "bf16")
    if peak is None or share is None:
        return refuse("precision", f"no peak or share for {row.precision} on {row.hardware.key}")
    # Where the row does not say, as most published runs of its kind do it: no recompute.
    recompute = row.recompute or "none"
    again = _FORWARD_AGAIN.get(recompute)
    if again is None:
        return refuse("recompute", f"{recompute} is not known")
    flops = sample_flops(row.model, sequence_length=row.seq_len)
    step_s = row.global_batch * (flops.training + again * flops.forward) / (peak * share * row.devices)
    low_s, high_s = step_s * (1.0 - _INTERVAL_FRAC), step_s * (1.0 + _INTERVAL_FRAC)
    return RowPrediction(step_s=step_s, low_s=low_s, high_s=high_s, recompute=recompute)


def _flops_per_s(hardware: HardwareFacts, precision: str) -> float | None:
    peaks = {
        "fp16": hardware.bf16_tflops,
        "bf16": hardware.bf16_tflops,
        "fp8": hardware.fp8_tflops or hardware.bf16_tflops,
        "mxfp8": hardware.fp8_tflops,
        "nvfp4": hardware.nvfp4_tflops,
        "int8": hardware.int8_tops,
    }
    peak = peaks.get(precision)
    return None if peak is None else peak * 1e12


def _pool_flops(row: RowInput) -> float | None:
    """Mean peak of the devices of a job on several types."""
    assert row.pool is not None
    if any(name not in _POOL_TFLOPS for name, _ in row.pool):
        return None
    return sum(_POOL_TFLOPS[name] * number for name, number in row.pool) * 1e12 / sum(number for _, number in row.pool)
