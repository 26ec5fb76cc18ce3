"""Real training runs of several ranks that are killed, stopped and started again under another strategy."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.training_runs import (
    RunFolder,
    finish,
    make_order,
    next_attempt,
    rank_log,
    small_decoder,
    start_ranks,
    text_workload,
    write_texts,
)
from trimtab.jobspec import CheckpointPolicy
from trimtab.orders import EXIT_CHECKPOINT, EXIT_STOPPED, RunOrder
from trimtab.strategy import Strategy
from workers.data.build import build_data, cache_folder
from workers.data.order import SampleOrder, digest_of_ids
from workers.training.checkpoint_manifest import list_checkpoints, verify
from workers.training.lineage import LOSSES, digest_of, joined_losses
from workers.training.reports import read_lines

pytest.importorskip("torch")

pytestmark = [pytest.mark.runtime, pytest.mark.slow]

NUM_STEPS = 80
GLOBAL_BATCH = 4
NUM_KILLS = 3
TWO_RANKS = Strategy(dp=2, micro_batch=1, num_micro_batches=2)
POLICY = CheckpointPolicy(every_steps=5, every_s=0, keep=2)


def _order(folder: RunFolder, strategy: Strategy = TWO_RANKS) -> RunOrder:
    train = text_workload(write_texts(folder.root / "texts", num_lines=30), num_steps=NUM_STEPS, global_batch=GLOBAL_BATCH)
    return make_order(folder, small_decoder(num_layers=4), train, strategy, checkpoint=POLICY)


def _summary(order: RunOrder) -> dict[str, object]:
    document: dict[str, object] = json.loads((Path(order.attempt_dir) / "summary.json").read_text(encoding="utf-8"))
    return document


def _wait_for_steps(order: RunOrder, count: int, processes: list[subprocess.Popen[bytes]]) -> None:
    """Until this attempt has done ``count`` steps, or its ranks have ended."""
    for _ in range(6000):
        done = sum(1 for _ in read_lines(Path(order.attempt_dir) / LOSSES))
        if done >= count or any(process.poll() is not None for process in processes):
            return
        time.sleep(0.02)
    raise AssertionError(f"no {count} steps in 120 s: {rank_log(order)}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunOrder:
    order = _order(RunFolder(root=tmp_path_factory.mktemp("undisturbed")))
    assert finish(start_ranks(order)) == [0, 0], rank_log(order)
    return order


def test_killing_all_ranks_at_random_moments_changes_nothing(undisturbed: RunOrder, tmp_path: Path) -> None:
    generator = random.Random(11)
    folder = RunFolder(root=tmp_path)
    order = _order(folder)
    for _ in range(NUM_KILLS):
        processes = start_ranks(order)
        _wait_for_steps(order, generator.randint(3, 18), processes)
        time.sleep(generator.random() * 0.05)
        for process in generator.sample(processes, len(processes)):
            process.send_signal(signal.SIGKILL)
        assert finish(processes) == [-signal.SIGKILL] * 2
        found = list_checkpoints(folder.checkpoint_dir)
        for each in found:
            verify(each.path)
        order = next_attempt(order, folder, resume_from=found[0].path if found else None)
    assert finish(start_ranks(order)) == [0, 0], rank_log(order)

    summary, expected = _summary(order), _summary(undisturbed)
    assert summary["loss_digest"] == expected["loss_digest"]
    assert summary["figures"]["train_loss_final"] == expected["figures"]["train_loss_final"]  # type: ignore[index]
    curve = joined_losses(folder.checkpoint_dir)
    assert digest_of(curve) == summary["loss_digest"]
    assert len({point.attempt for point in curve}) > 1
    _check_every_sample_once(order, [point.samples for point in curve])


def _check_every_sample_once(order: RunOrder, fingerprints: list[str]) -> None:
    """The samples that the valid steps name are those of the order, each once per epoch, computed here on its own."""
    spec = order.spec
    assert spec.model is not None
    assert spec.train is not None
    data = build_data(spec.model, spec.train, cache_folder(order.checkpoint_dir))
    sample_order = SampleOrder(data.num_train, spec.train.seed)
    steps = [sample_order.ids(step * GLOBAL_BATCH, GLOBAL_BATCH) for step in range(NUM_STEPS)]
    assert fingerprints == [digest_of_ids(ids) for ids in steps]
    taken = np.concatenate(steps)
    num_epochs = len(taken) // data.num_train
    assert num_epochs >= 1
    for epoch in range(num_epochs):
        counts = Counter(taken[epoch * data.num_train : (epoch + 1) * data.num_train].tolist())
        assert set(counts.values()) == {1}
        assert len(counts) == data.num_train


def test_rank_without_its_peer_ends_by_itself(tmp_path: Path) -> None:
    order = _order(RunFolder(root=tmp_path))
    processes = start_ranks(order)
    _wait_for_steps(order, 3, processes)
    processes[1].send_signal(signal.SIGKILL)
    codes = finish(processes, timeout_s=60)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, EXIT_STOPPED, EXIT_CHECKPOINT)
    assert "rank 0: " in rank_log(order).strip().splitlines()[-1]


def test_stop_signal_to_any_rank_stops_all_after_a_checkpoint(undisturbed: RunOrder, tmp_path: Path) -> None:
    folder = RunFolder(root=tmp_path)
    order = _order(folder)
    processes = start_ranks(order)
    _wait_for_steps(order, 4, processes)
    os.kill(processes[1].pid, signal.SIGTERM)
    assert finish(processes) == [EXIT_STOPPED, EXIT_STOPPED], rank_log(order)
    found = list_checkpoints(folder.checkpoint_dir)[0]
    assert found.step == sum(1 for _ in read_lines(Path(order.attempt_dir) / LOSSES))
    order = next_attempt(order, folder, resume_from=found.path)
    assert finish(start_ranks(order)) == [0, 0], rank_log(order)
    assert _summary(order)["loss_digest"] == _summary(undisturbed)["loss_digest"]


@pytest.mark.parametrize(
    "strategy",
    [
        Strategy(micro_batch=4),
        Strategy(fsdp=2, zero_stage=3, micro_batch=2),
        Strategy(tp=2, micro_batch=4),
        Strategy(pp=2, micro_batch=2, num_micro_batches=2),
    ],
    ids=lambda strategy: strategy.label(),
)
def test_run_goes_on_under_another_strategy(undisturbed: RunOrder, tmp_path: Path, strategy: Strategy) -> None:
    folder = RunFolder(root=tmp_path)
    order = _order(folder)
    processes = start_ranks(order)
    _wait_for_steps(order, 12, processes)
    os.kill(processes[0].pid, signal.SIGTERM)
    assert finish(processes) == [EXIT_STOPPED, EXIT_STOPPED], rank_log(order)
    order = next_attempt(order, folder, resume_from=list_checkpoints(folder.checkpoint_dir)[0].path)
    order = replace(order, strategy=strategy, slots=_order(folder, strategy).slots)
    assert finish(start_ranks(order)) == [0] * strategy.world_size, rank_log(order)
    curve = joined_losses(folder.checkpoint_dir)
    expected = joined_losses(Path(undisturbed.checkpoint_dir))
    assert [point.step for point in curve] == list(range(1, NUM_STEPS + 1))
    assert [point.samples for point in curve] == [point.samples for point in expected]
    for point, other in zip(curve, expected, strict=True):
        assert float(point.loss) == pytest.approx(float(other.loss), rel=1e-4)


def test_checkpoint_that_is_gone_ends_with_its_own_code(tmp_path: Path) -> None:
    folder = RunFolder(root=tmp_path)
    order = next_attempt(_order(folder, Strategy(micro_batch=4)), folder, resume_from=folder.checkpoint_dir / "a1" / "step-5")
    assert finish(start_ranks(order)) == [EXIT_CHECKPOINT]
    assert "no usable checkpoint" in rank_log(order).strip().splitlines()[-1]
