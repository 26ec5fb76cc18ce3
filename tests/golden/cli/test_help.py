"""The help of every command: the surface that scripts and fingers rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.entrypoints.cli.app import ENTRIES
from scheduler.entrypoints.cli.main import run
from tests.golden.golden import check_golden

HERE = Path(__file__).parent
CALLS = [(), *((entry.name,) for entry in ENTRIES), ("server", "start"), ("server", "stop"), ("server", "status")]


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same width everywhere."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: "-".join(call) or "trimtab")
def test_help(call: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*call, "--help"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    check_golden(said.out, HERE / f"{'-'.join(call) or 'trimtab'}.txt")


def test_every_help_file_belongs_to_a_command() -> None:
    names = {"-".join(call) or "trimtab" for call in CALLS}
    assert {path.stem for path in HERE.glob("*.txt")} == names
