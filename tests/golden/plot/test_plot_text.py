"""The plot in the terminal, character by character."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.entrypoints.cli.console import paint
from scheduler.entrypoints.cli.planprint.page import plain
from scheduler.entrypoints.cli.plottext import HEIGHT, WIDTH, plot_lines
from scheduler.service.pareto import Picture, picture
from tests.golden.golden import check_golden
from tests.support.plans import STRATEGY, candidate, inventory

HERE = Path(__file__).parent


def shown() -> Picture:
    """Forty candidates on a bow, every third over the limit."""
    found = [
        candidate(
            replace(STRATEGY, num_micro_batches=number + 1),
            step_s=100.0 * (number + 1),
            cost_usd=4000.0 / (number + 1) + 40.0 * (number % 7),
            nodes=4,
        )
        for number in range(40)
    ]
    good = {id(c) for number, c in enumerate(found) if number % 3}
    return picture(found, inventory(), title="llama-sft", is_feasible=lambda c: id(c) in good, marked=found[4], mark="chosen")


def text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def test_a_plot() -> None:
    check_golden(text(plot_lines(shown(), width=100, style=plain)), HERE / "plot.txt")


def test_colour_changes_no_letter() -> None:
    coloured = text(plot_lines(shown(), width=100, style=paint))
    assert coloured != re.sub(r"\x1b\[[0-9;]*m", "", coloured) == text(plot_lines(shown(), width=100, style=plain))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_field_keeps_to_the_width(width: int) -> None:
    lines = plot_lines(shown(), width=width, style=plain)
    field = [line for line in lines if "│" in line or "┤" in line]
    assert len(field) == HEIGHT
    assert max(len(line) for line in field) <= width
    (edge,) = [line for line in lines if "└" in line]
    assert len(edge) <= width
    assert (edge.count("─") + edge.count("┬")) == min(WIDTH, width - edge.index("└") - 1)


def test_one_candidate_and_none() -> None:
    alone = picture(
        [candidate(STRATEGY, step_s=1.0, cost_usd=5.0, nodes=1)],
        inventory(),
        title="one",
        is_feasible=lambda c: True,
        marked=None,
        mark="",
    )
    assert sum("●" in line for line in plot_lines(alone, width=80, style=plain)) == 2  # the point and the legend
    nothing = replace(alone, points=(), front=(), bars=())
    assert plot_lines(nothing, width=80, style=plain) == ["nothing to plot: no candidate's time is predicted"]
