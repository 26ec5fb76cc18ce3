"""The job reader takes the exported job file, and the planner makes the same strategy of it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from planner.api import estimate
from planner.export import Dimension, ExportCase, ExportTarget, export, refusals
from scheduler.entrypoints.documents import load_job, read_document
from tests.contract.export.conftest import Laid
from tests.support.planning import h100_pool, inventory
from trimtab.inventory import Shape
from trimtab.jobspec import JobSpec, StrategyRequest
from trimtab.strategy import Precision, Recompute, Strategy

JOB = """\
kind: train
name: exported
model: {family: decoder, layers: 8, hidden_size: 64, heads: 4, head_size: 16, feed_forward_size: 192, vocab_size: 512}
data: {kind: stdlib}
workload: {steps: 100, sequence_length: 128, global_batch: 16, precision: bf16, optimizer: {learning_rate: 1.0e-5}}
limits: {max_cost: $12.50}
labels: {team: "on: call", size: "1e3"}
checkpoint: {every: 1h}
"""
CASES = {
    "one": Strategy(micro_batch=4, num_micro_batches=4, precision=Precision.BF16),
    "data": Strategy(dp=4, micro_batch=2, num_micro_batches=2, precision=Precision.BF16),
    "sharded": Strategy(
        fsdp=4, zero_stage=3, micro_batch=4, num_micro_batches=1, recompute=Recompute.FULL, precision=Precision.BF16
    ),
    "tensor": Strategy(dp=2, tp=2, micro_batch=2, num_micro_batches=4, precision=Precision.BF16),
    "pipeline": Strategy(dp=2, pp=2, micro_batch=1, num_micro_batches=8, precision=Precision.BF16, stage_layers=(4, 4)),
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The job file of a person."""
    path = tmp_path / "written.yaml"
    path.write_text(JOB)
    return path


def exported(strategy: Strategy, written: Path) -> tuple[JobSpec, ExportCase]:
    """The job of the file, and the case of a strategy for it."""
    spec = load_job(written)
    assert spec.model is not None
    assert spec.train is not None
    return spec, ExportCase(
        name=spec.name,
        model=spec.model,
        train=spec.train,
        strategy=strategy,
        shape=Shape(num_nodes=1, devices_per_node=strategy.world_size),
        job=read_document(written)[0],
    )


@pytest.mark.parametrize("name", list(CASES))
def test_the_job_reader_reads_the_same_job_with_the_strategy_fixed(name: str, written: Path, laid: Laid) -> None:
    strategy = CASES[name]
    spec, case = exported(strategy, written)
    _, folder = laid(case, ExportTarget.TRIMTAB)
    again = load_job(folder / "job.yaml")
    fixed = {field.name: getattr(strategy, field.name) for field in fields(StrategyRequest)}
    assert {name: getattr(again.strategy, name) for name in fixed} == {
        name: value if value != () else getattr(StrategyRequest(), name) for name, value in fixed.items()
    }
    assert (again.devices.min_devices, again.devices.max_devices) == (strategy.world_size, strategy.world_size)
    assert replace(again, strategy=spec.strategy, devices=spec.devices) == spec


@pytest.mark.parametrize("name", list(CASES))
def test_the_planner_finds_the_same_strategy_again(name: str, written: Path, laid: Laid) -> None:
    strategy = CASES[name]
    _, case = exported(strategy, written)
    _, folder = laid(case, ExportTarget.TRIMTAB)
    candidates = estimate(load_job(folder / "job.yaml"), inventory(h100_pool()), ())
    found = [candidate.strategy for candidate in candidates]
    assert strategy in found
    parts = [field.name for field in fields(StrategyRequest) if field.name != "stage_layers"]
    for other in found:
        assert other is not None
        assert [getattr(other, part) for part in parts] == [getattr(strategy, part) for part in parts]
        assert other.num_micro_batches == strategy.num_micro_batches


def test_what_a_job_file_does_not_fix_is_noted_with_its_value(written: Path) -> None:
    strategy = Strategy(tp=2, sequence_parallel=True, micro_batch=4, num_micro_batches=4, precision=Precision.BF16)
    _, case = exported(strategy, written)
    noted = {note.dimension: note.text for note in export(case, ExportTarget.TRIMTAB).notes}
    fixed = {field.name for field in fields(StrategyRequest)}
    assert ("sequence_parallel" in fixed) or "True" in noted[Dimension.SEQUENCE_PARALLEL]


def test_what_our_trainer_does_not_run_is_refused_by_name(written: Path) -> None:
    strategy = Strategy(cp=2, micro_batch=4, num_micro_batches=4, precision=Precision.BF16)
    _, case = exported(strategy, written)
    assert [refusal.dimension for refusal in refusals(case, ExportTarget.TRIMTAB)] == [Dimension.CP]
