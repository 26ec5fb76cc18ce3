"""Plots as files: the same picture gives the same bytes, and says what it shows."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from scheduler.entrypoints.cli.common import Format
from scheduler.entrypoints.cli.exits import CommandError
from scheduler.entrypoints.cli.plotaxes import axis_of, time_unit
from scheduler.entrypoints.cli.plots import check_plot
from scheduler.entrypoints.cli.plotting import write_plot
from scheduler.service.pareto import Picture, picture
from tests.support.plans import STRATEGY, candidate, inventory


def shown() -> Picture:
    found = [candidate(STRATEGY, step_s=step_s, cost_usd=1000.0 / step_s, nodes=4) for step_s in (1.0, 2.0, 4.0)]
    return picture(found, inventory(), title="a job", is_feasible=lambda c: c is not found[0], marked=found[1], mark="chosen")


@pytest.mark.parametrize(("ending", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_the_same_picture_gives_the_same_bytes(tmp_path: Path, ending: str, begins: bytes) -> None:
    first, second = tmp_path / f"one.{ending}", tmp_path / f"two.{ending}"
    write_plot(shown(), first)
    write_plot(shown(), second)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(begins)


def test_the_drawing_says_what_it_shows_and_not_when(tmp_path: Path) -> None:
    write_plot(shown(), tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    for words in ("a job", "time of the run", "cost of the run", "H100-SXM5-80GB", "over a limit", "chosen: 32", "activations"):
        assert words in text, words
    assert "<dc:date>" not in text
    assert not re.search(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T", text)


@pytest.mark.parametrize("values", [(1.0,), (0.0, 0.0), (3.0, 4.0), (1e-4, 5.0), (0.0, 100.0), (1.0, 1e12), (7.3, 7.4)])
def test_an_axis_holds_its_values_and_has_few_ticks(values: tuple[float, ...]) -> None:
    axis = axis_of(values)
    assert all(0.0 <= axis.place(value) <= 1.0 for value in values)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert 1 <= len(axis.ticks) <= 8
    assert len(values) == 1 or values[0] == values[-1] or axis.place(values[0]) < axis.place(values[-1])
    assert axis.is_log == (min(values) > 0 and max(values) / min(values) > 5)
    assert math.isclose(axis.place(axis.low), 0.0, abs_tol=1e-9)
    assert math.isclose(axis.place(axis.high), 1.0)


@pytest.mark.parametrize(("hours", "name"), [(0.001, "seconds"), (0.2, "minutes"), (5.0, "hours"), (100.0, "days")])
def test_times_are_drawn_in_the_unit_of_most(hours: float, name: str) -> None:
    assert time_unit([hours, hours, 1e6])[1] == name


@pytest.mark.parametrize(
    ("target", "said"), [("plot.jpg", "allowed: FILE.svg, FILE.png, or -"), ("nowhere/at/all.svg", "there is no folder")]
)
def test_what_cannot_be_drawn_is_refused(target: str, said: str) -> None:
    with pytest.raises(CommandError, match=re.escape(said)):
        check_plot(target, Format.TABLE)


def test_the_terminal_is_not_shared_with_machines() -> None:
    with pytest.raises(CommandError, match="draws on stdout"):
        check_plot("-", Format.JSON)
    check_plot("-", Format.WIDE)
    check_plot(None, Format.JSON)
