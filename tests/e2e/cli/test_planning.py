"""``trimtab plan`` and ``trimtab estimate`` as programs, on an inventory from a file: no server, no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Shell, shell

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "known-model"
HUGE = """\
kind: train
name: huge
model: {family: decoder, layers: 100, hidden_size: 16384, heads: 128, feed_forward_size: 65536, vocab_size: 128000}
data: {kind: stdlib}
workload: {steps: 10, sequence_length: 2048, global_batch: 8}
"""


@pytest.fixture(scope="module")
def sh() -> Iterator[Shell]:
    with shell() as own:
        yield own


@pytest.fixture(scope="module")
def files() -> tuple[str, ...]:
    return (str(EXAMPLE / "job.yaml"), "--inventory", str(EXAMPLE / "inventory.yaml"))


def test_a_plan_for_machines_is_json_and_nothing_else(sh: Shell, files: tuple[str, ...]) -> None:
    done = sh("plan", *files, "-o", "json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["assignments"][0]["candidate"]["fit"] == "fits"
    assert plan["solve"]["bound_usd_per_hour"] is not None
    assert sh("server", "status").returncode == 1, "planning on a file starts no control process"


def test_every_strategy_is_listed_the_fastest_first(sh: Shell, files: tuple[str, ...]) -> None:
    done = sh("estimate", *files, "--limit", "5")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["OFFER", "DEVICES", "STRATEGY"]
    assert len(lines) == 6
    found = json.loads(sh("estimate", *files, "-o", "json", "--limit", "50").stdout)
    seconds = [candidate["total_s"]["value"] for candidate in found]
    assert seconds == sorted(seconds)
    assert all(rank["total_bytes"]["value"] > 0 for candidate in found for rank in candidate["memory"])


@pytest.mark.parametrize("command", ["plan", "estimate"])
def test_what_cannot_fit_is_refused_with_the_numbers(sh: Shell, command: str) -> None:
    (sh.cwd / "huge.yaml").write_text(HUGE)
    done = sh(command, "huge.yaml", "--inventory", str(EXAMPLE / "inventory.yaml"))
    assert done.returncode == 3
    said = " ".join((done.stdout + done.stderr).split())
    assert "does-not-fit" in said
    assert "device-memory: the closest" in said
