"""``--what-if``, ``--plot`` and ``trimtab compare`` as programs, on an inventory from a file: no server, no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Shell, shell

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "known-model"
JOB, INVENTORY = str(EXAMPLE / "job.yaml"), str(EXAMPLE / "inventory.yaml")
QUESTIONS = ("devices+8", "price*0.5", "type=H200", "memory*0.05")
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
def saved(sh: Shell) -> dict[str, Any]:
    """The example's plan with questions and a plot, kept as plan.json and plot.svg in the shell's folder."""
    asked = [part for question in QUESTIONS for part in ("--what-if", question)]
    done = sh("plan", JOB, "--inventory", INVENTORY, *asked, "--plot", "plot.svg", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert "drawn: plot.svg" in done.stderr
    (sh.cwd / "plan.json").write_text(done.stdout)
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def chosen(plan: dict[str, Any]) -> dict[str, Any]:
    candidate: dict[str, Any] = plan["assignments"][0]["candidate"]
    return candidate


def test_each_question_has_a_plan_of_its_own(saved: dict[str, Any]) -> None:
    plain = chosen(saved)
    more, cheaper, other, tiny = saved["what_if"]
    assert [case["change"] for case in saved["what_if"]] == list(QUESTIONS)
    size = plain["shape"]["num_nodes"] * plain["shape"]["devices_per_node"]
    assert chosen(more)["shape"]["num_nodes"] * chosen(more)["shape"]["devices_per_node"] == size + 8
    assert chosen(more)["total_s"]["value"] < plain["total_s"]["value"]
    assert chosen(cheaper)["cost_usd"]["value"] == pytest.approx(0.5 * plain["cost_usd"]["value"])
    assert other["inventory"]["pools"][0]["device_type"] == "H200-SXM5-141GB"
    assert tiny["assignments"] == []
    assert tiny["unplaced"][0]["reason"] == "does-not-fit"


def test_a_saved_plan_is_compared_with_itself_and_with_a_job_file(sh: Shell, saved: dict[str, Any]) -> None:
    assert saved["job"]["name"] == "llama-3-8b-pretrain"
    same = sh("compare", "plan.json", "plan.json")
    assert same.returncode == 0, same.stderr
    assert "whole run: A and B are the same" in same.stdout
    assert "≠" not in same.stdout
    assert "warning" not in same.stdout
    faster = (
        (EXAMPLE / "job.yaml")
        .read_text()
        .replace("optimize: cost", "optimize: time")
        .replace("global_batch: 128", "global_batch: 64")
    )
    (sh.cwd / "data").mkdir()
    (sh.cwd / "faster.yaml").write_text(faster)
    done = sh("compare", "plan.json", "faster.yaml", "--inventory", INVENTORY)
    assert done.returncode == 0, done.stderr
    assert "global_batch 128 and 64" in " ".join(done.stdout.split())
    assert "whole run: B is" in done.stdout
    assert "measure before you believe it" in done.stdout


def test_a_comparison_for_machines(sh: Shell, saved: dict[str, Any]) -> None:
    (sh.cwd / "bare.json").write_text(
        json.dumps({key: saved[key] for key in saved if key not in ("job", "inventory", "unit_id")})
    )
    done = sh("compare", "plan.json", "bare.json", "-o", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "does not hold its job" in found["warnings"][0]
    step = next(figure for figure in found["figures"] if figure["name"] == "step time")
    assert (step["ratio"], step["overlap"]) == (1.0, True)


def test_the_plot_is_a_drawing_of_every_candidate(sh: Shell, saved: dict[str, Any]) -> None:
    text = (sh.cwd / "plot.svg").read_text()
    assert text.startswith("<?xml")
    assert "chosen: 8 × h100" in text
    assert "A100-SXM4-80GB" in text


def test_the_plot_in_the_terminal_stands_behind_the_table(sh: Shell) -> None:
    done = sh("estimate", JOB, "--inventory", INVENTORY, "--limit", "1", "--plot", "-")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("OFFER")
    assert sum("│" in line or "┤" in line for line in done.stdout.splitlines()) == 20
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("plan", JOB, "--what-if", "devicez+8"), 2, "did you mean 'devices'?"),
        (("plan", JOB, "--what-if", "devices+8", "--plot", "plot.jpg"), 2, "allowed: FILE.svg, FILE.png"),
        (("estimate", JOB, "--plot", "-", "-o", "json"), 2, "draws on stdout"),
        (("compare", "nothing.json", JOB), 4, "no such file"),
        (("compare", "broken.json", JOB), 2, "not a plan: Plan.basis_version: missing"),
        (("compare", "huge.yaml", "huge.yaml", "--inventory", INVENTORY), 3, "gives the job no devices: does-not-fit"),
    ],
)
def test_what_is_wrong_ends_with_its_code(sh: Shell, arguments: tuple[str, ...], code: int, said: str) -> None:
    (sh.cwd / "broken.json").write_text('{"assignments": [], "unplaced": [], "id": "plan_1"}')
    (sh.cwd / "huge.yaml").write_text(HUGE)
    done = sh(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in " ".join(done.stderr.split())


def test_no_control_process_was_started(sh: Shell) -> None:
    assert sh("server", "status").returncode == 1
