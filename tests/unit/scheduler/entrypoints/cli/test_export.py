"""``trimtab export``: from a job file, from a printed plan, and its refusals. No server, no torch."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from planner.export import ExportTarget
from scheduler.entrypoints.cli.exits import ExitCode
from scheduler.entrypoints.cli.exporting import Target
from scheduler.entrypoints.cli.main import run

JOB = """\
kind: train
name: exported
model: llama-3-8b
data: {kind: text, paths: .}
workload: {steps: 100, sequence_length: 4096, global_batch: 64, precision: bf16, optimizer: {learning_rate: 1.0e-4}}
"""
INVENTORY = """\
pools:
  - name: h100
    device_type: H100-SXM
    nodes: 2
    devices_per_node: 8
    zone: a
    network: {bandwidth: 400 Gbit/s, latency: 10us}
    offers:
      - {market: on-demand, price_per_device_hour: 3.00, source: a test, date: "2026-07-20"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a job and an inventory, in which commands run; the state folder is another one."""
    (tmp_path / "job.yaml").write_text(JOB)
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIMTAB_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def plan(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The name of a file with a printed plan of the job."""
    assert run(["plan", "job.yaml", "--inventory", "inventory.yaml", "-o", "json"]) == 0
    (folder / "plan.json").write_text(capsys.readouterr().out)
    return "plan.json"


def test_the_targets_are_those_of_the_planner() -> None:
    assert [str(target) for target in Target] == [str(target) for target in ExportTarget]


def test_a_plan_and_its_job_file_give_the_files(folder: Path, plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    strategy = json.loads((folder / plan).read_text())["assignments"][0]["candidate"]["strategy"]
    arguments = ["export", plan, "--job", "job.yaml", "--to", "torchtitan", "--out", "out/deep"]
    assert run(arguments) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == ["out/deep/torchtitan.toml", "out/deep/start.sh"]
    assert "note: run: data set and tokenizer" in said.err
    tree = tomllib.loads((folder / "out/deep/torchtitan.toml").read_text())
    assert tree["parallelism"]["data_parallel_shard_degree"] == strategy["fsdp"]
    assert tree["training"]["global_batch_size"] == 64
    assert "torchtitan.train" in (folder / "out/deep/start.sh").read_text()


def test_a_job_file_is_planned_at_once_and_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", "job.yaml", "--inventory", "inventory.yaml", "--to", "torchrun", "--script", "mine.py"]
    assert run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "==> strategy.json <=="
    assert lines[-1].split("  ", 1)[0].startswith("node ")
    assert lines[-1].endswith("mine.py")


def test_the_exported_job_gives_the_same_strategy_again(folder: Path, plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", plan, "--job", "job.yaml", "--inventory", "inventory.yaml", "--to", "trimtab", "--out", "out"]
    assert run(arguments) == 0
    capsys.readouterr()
    assert run(["plan", "out/job.yaml", "--inventory", "inventory.yaml", "-o", "json"]) == 0
    strategies = [
        tree["assignments"][0]["candidate"]["strategy"]
        for tree in (json.loads((folder / plan).read_text()), json.loads(capsys.readouterr().out))
    ]
    assert strategies[0] == strategies[1]


def test_json_is_the_whole_export(folder: Path, plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", plan, "--job", "job.yaml", "--to", "megatron", "-o", "json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["target"], [file["name"] for file in tree["files"]]) == ("megatron", ["megatron.args", "start.sh"])
    assert "--global-batch-size" in tree["launch"]["argv"]


def test_what_a_target_cannot_express_is_refused_by_name(folder: Path, plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    tree = json.loads((folder / plan).read_text())
    (assignment,) = tree["assignments"]
    strategy, shape = assignment["candidate"]["strategy"], assignment["candidate"]["shape"]
    strategy.update(cp=2)
    shape["num_nodes"] *= 2
    (folder / "other.json").write_text(json.dumps(tree))
    assert run(["export", "other.json", "--job", "job.yaml", "--to", "deepspeed"]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert "strategy.cp: context parallel 2" in said.err


def test_a_plan_of_another_job_is_refused(folder: Path, plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "job.yaml").write_text(JOB.replace("global_batch: 64", "global_batch: 32"))
    assert run(["export", plan, "--job", "job.yaml", "--to", "megatron"]) == ExitCode.USAGE
    assert "the job file that the plan was made from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["plan.json"], ExitCode.USAGE, "--job FILE"),
        (["nothing"], ExitCode.NOT_FOUND, "no such file"),
        (["plan_0"], ExitCode.NOT_FOUND, "no control process"),
        (["plan.json", "--job", "job.yaml", "--unit", "nobody"], ExitCode.NOT_FOUND, "has no unit nobody"),
    ],
)
@pytest.mark.usefixtures("plan")
def test_wrong_calls_say_what_is_missing(
    arguments: list[str], code: ExitCode, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", *arguments, "--to", "megatron"]) == code
    assert words in capsys.readouterr().err


def test_a_job_without_devices_is_infeasible(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "job.yaml").write_text(JOB + "devices: {count: 64}\n")
    arguments = ["export", "job.yaml", "--inventory", "inventory.yaml", "--to", "megatron"]
    assert run(arguments) == ExitCode.INFEASIBLE
    assert "no devices" in capsys.readouterr().err
