"""Arithmetic and labels of a strategy."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab.strategy import PipelineSchedule, Precision, Recompute, Strategy


def test_world_and_batch_arithmetic() -> None:
    strategy = Strategy(dp=2, fsdp=4, zero_stage=3, tp=2, pp=2, micro_batch=3, num_micro_batches=5)
    assert strategy.world_size == 32
    assert strategy.data_ranks == 8
    assert strategy.global_batch == 3 * 5 * 8


@pytest.mark.parametrize(
    ("strategy", "label"),
    [
        (Strategy(), "single mb1x1 fp32"),
        (Strategy(dp=2, tp=2, micro_batch=4, num_micro_batches=2), "dp2 tp2 mb4x2 fp32"),
        (Strategy(fsdp=8, zero_stage=3, precision=Precision.BF16), "fsdp8 mb1x1 bf16"),
        (Strategy(fsdp=8, zero_stage=1), "zero1x8 mb1x1 fp32"),
        (
            Strategy(pp=2, schedule=PipelineSchedule.GPIPE, recompute=Recompute.FULL, num_micro_batches=4),
            "pp2 gpipe mb1x4 re-full fp32",
        ),
    ],
)
def test_labels(strategy: Strategy, label: str) -> None:
    assert strategy.label() == label


@pytest.mark.parametrize(
    "wrong",
    [{"dp": 0}, {"micro_batch": 0}, {"zero_stage": 4}, {"zero_stage": 1}, {"fsdp": 2}, {"pp": 2, "stage_layers": (1, 2, 3)}],
)
def test_impossible_strategies_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        Strategy(**wrong)
