"""A real training job from the file to the summary, through the command line."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator

import pytest

from tests.support.cli import Shell, shell

pytestmark = [
    pytest.mark.runtime,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
]

JOB = """\
kind: train
name: tiny-lm
model: {family: decoder, layers: 2, hidden_size: 32, heads: 2, feed_forward_size: 64, vocab_size: 512}
data: {kind: stdlib, max_size: 300KB}
workload: {steps: 12, sequence_length: 32, global_batch: 8, seed: 1, optimizer: {learning_rate: 0.003}}
optimize: time
checkpoint: {every: 5s}
"""


@pytest.fixture(scope="module")
def sh() -> Iterator[Shell]:
    with shell() as found:
        (found.cwd / "job.yaml").write_text(JOB)
        yield found


def test_run_prints_the_plan_follows_and_sums_up(sh: Shell) -> None:
    done = sh("run", "job.yaml", "--no-probe", timeout_s=600)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "Plan plan_",
        "CHOSEN",
        "MEMORY OF A RANK",
        "OBJECTIVE",
        "SUCCEEDED",
        "held-out loss",
        "step, measured",
        "rank 0",
    ):
        assert words in done.stdout
    assert "step 12/12 (100 %)" in done.stderr
    view = json.loads(sh("get", "tiny-lm", "-o", "json").stdout)
    assert view["state"] == "SUCCEEDED"
    assert view["checkpoint_step"] == 12
    assert view["summary"]["peak_tensor_bytes_rank_0"] > 0


def test_a_plan_that_was_made_can_be_submitted_once_and_not_for_another_job(sh: Shell) -> None:
    plan = json.loads(sh("plan", "job.yaml", "-o", "json").stdout)
    (sh.cwd / "other.yaml").write_text(JOB.replace("seed: 1", "seed: 2"))
    refused = sh("submit", "other.yaml", "--plan", plan["id"])
    assert refused.returncode == 6
    assert "another job" in refused.stderr
    submitted = sh("submit", "job.yaml", "--plan", plan["id"], "-o", "json")
    view = json.loads(submitted.stdout)
    assert view["plan_id"] == plan["id"]
    assert view["state"] == "STARTING"
    beside = sh("plan", "job.yaml")
    assert beside.returncode in (0, 3), beside.stderr
    assert f"for {view['name']}" in beside.stdout
    assert sh("cancel", view["id"]).returncode == 0
    assert sh("wait", view["id"]).returncode == 7
