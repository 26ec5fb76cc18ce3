"""Random ``kill -9`` during real training changes nothing: same losses, every sample once, never two attempts at work."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.entrypoints.documents import read_text
from tests.support.long import LONG, SEED, in_long_form
from tests.support.storm import Storm, Target, finished_curve, lingering_processes, stop_server
from trimtab.jobspec import JobSpec
from trimtab.spec import parse_job

NUM_KILLS = in_long_form(5, 60)
NUM_STEPS = 300
GLOBAL_BATCH = 8
JOB = f"""\
kind: train
name: storm
model:
  family: decoder
  layers: 2
  hidden_size: 64
  heads: 4
  feed_forward_size: 128
  vocab_size: 512
data: {{kind: stdlib, max_size: 400kB}}
workload:
  steps: {NUM_STEPS}
  sequence_length: 64
  global_batch: {GLOBAL_BATCH}
  seed: 5
  optimizer: {{learning_rate: 0.002}}
devices: 2
strategy: {{fsdp: 2}}
checkpoint: {{every_steps: 10, every: 0s, keep: 3}}
retry: {{max_failures: 10000, max_losses: 10000, backoff: 0s, max_backoff: 1s}}
"""


def spec() -> JobSpec:
    tree, marks = read_text(JOB)
    return parse_job(tree, marks, base_dir=Path(), source="storm.yaml")


@pytest.fixture
def home() -> Iterator[Path]:
    # Short: a unix socket in it may have about a hundred bytes of path.
    path = Path(tempfile.mkdtemp(prefix="tts-"))
    yield path
    stop_server(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.runtime
@pytest.mark.e2e
@pytest.mark.timeout(7200 if LONG else 600)
def test_kills_change_neither_losses_nor_samples(home: Path) -> None:
    calm = Storm(home, seed=SEED)
    undisturbed = finished_curve(home, calm.run_job(spec(), num_kills=0, timeout_s=300))
    assert sorted(undisturbed.losses) == list(range(1, NUM_STEPS + 1))
    assert undisturbed.summary["num_samples"] == NUM_STEPS * GLOBAL_BATCH

    storm = Storm(home, seed=SEED)
    while storm.num_kills < NUM_KILLS:
        job = storm.run_job(spec(), num_kills=NUM_KILLS - storm.num_kills, timeout_s=3600 if LONG else 400)
        curve = finished_curve(home, job)
        assert curve.losses == undisturbed.losses
        assert curve.samples == undisturbed.samples
        assert curve.summary["held_out_loss_nats"] == undisturbed.summary["held_out_loss_nats"]
        assert curve.summary["num_samples"] == NUM_STEPS * GLOBAL_BATCH
        assert curve.summary["num_samples_seen_in_epoch"] == undisturbed.summary["num_samples_seen_in_epoch"]
    kills = ", ".join(f"{count} of {target}" for target, count in storm.report.num_kills.items())
    print(
        f"storm: {storm.num_kills} kills ({kills}), {storm.report.num_attempts} attempts, {storm.report.num_looks} looks, "
        f"at most {storm.report.most_live_attempts} live attempt at any"
    )
    assert storm.num_kills >= NUM_KILLS
    assert storm.report.most_live_attempts == 1
    assert storm.report.num_attempts > 1
    assert not lingering_processes(home)
    if LONG:
        assert all(storm.report.num_kills[target] for target in Target)
