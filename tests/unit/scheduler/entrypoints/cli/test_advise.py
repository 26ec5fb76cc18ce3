"""``trimtab advise``: how devices are named, what is refused, and its forms for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scheduler.entrypoints.cli.main import run

EXAMPLE = Path(__file__).parents[5] / "examples" / "known-model"
JOB, INVENTORY = str(EXAMPLE / "job.yaml"), str(EXAMPLE / "inventory.yaml")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder of its own."""
    monkeypatch.setenv("TRIMTAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TERM", "dumb")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "H100"], "--device needs --devices N"),
        (["--devices", "8"], "--devices N needs --device TYPE"),
        (["--device", "H100", "--devices", "8", "--pool", "h100"], "leave out --inventory and --pool"),
        (["--device", "H100", "--devices", "12"], "no whole number of nodes of 8"),
        (["--device", "H1000", "--devices", "8"], "did you mean"),
        (["--inventory", INVENTORY, "--pool", "h200"], "allowed: h100, a100"),
        (["--inventory", INVENTORY, "--data-size", "many"], "--data-size: 'many' is not a whole number"),
        (["--inventory", INVENTORY, "--data-size", "0"], "data size: 0.0 is not above 0"),
        (["--inventory", INVENTORY, "--noise-scale", "-3"], "noise scale: -3.0 is not above 0"),
        (["--inventory", INVENTORY, "--framework", "megatorn"], "megatorn"),
    ],
)
def test_wrong_use(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["advise", JOB, *options]) == 2
    assert said in capsys.readouterr().err


def test_a_program_has_no_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("kind: command\nname: mine\ncommand: {argv: [python, train.py]}\n", encoding="utf-8")
    assert run(["advise", str(file), "--inventory", INVENTORY]) == 2
    assert "has no batches" in capsys.readouterr().err


def test_what_does_not_fit_has_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["advise", JOB, "--device", "T4", "--devices", "1"]) == 3
    assert "no strategy of trimtab runs llama-3-8b-pretrain on 1 " in capsys.readouterr().err


def test_forms_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--device", "A100-80GB", "--devices", "8", "--framework", "torchtitan"]
    assert run(["advise", JOB, *options, "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["framework"] == "torchtitan"
    assert found["recommended"]["num_devices"] == 8
    assert found["critical"]["low"] < found["critical"]["value"] < found["critical"]["high"]
    assert run(["advise", JOB, *options, "-o", "name"]) == 0
    assert capsys.readouterr().out.strip() == str(found["recommended"]["global_batch"])


def test_other_pools_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["advise", JOB, "--inventory", INVENTORY, "--pool", "a100"]) == 0
    said = capsys.readouterr()
    assert "pool a100, $3.43 per device and hour" in said.out
    assert "--pool h100" in said.err
