"""The page of batch advice for the known model, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.entrypoints.cli.main import run
from tests.golden.golden import check_golden

HERE = Path(__file__).parent
EXAMPLE = Path(__file__).parents[3] / "examples" / "known-model"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("inventory", ["--inventory", str(EXAMPLE / "inventory.yaml"), "--data-size", "3B"]),
        ("devices", ["--device", "H100", "--devices", "32", "--framework", "megatron", "--noise-scale", "300"]),
    ],
)
def test_the_page(
    name: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIMTAB_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "dumb")
    assert run(["advise", str(EXAMPLE / "job.yaml"), *options]) == 0
    check_golden(capsys.readouterr().out, HERE / f"{name}.txt")
