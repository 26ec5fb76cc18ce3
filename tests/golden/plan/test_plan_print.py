"""The plan print, line by line."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.entrypoints.cli.console import paint
from scheduler.entrypoints.cli.planprint import PlanPage, plan_lines
from tests.golden.golden import check_golden
from tests.support.plans import UNIT, infeasible_plan, inventory, job, plan
from trimtab.plan import Plan

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are printed in local time: here it is UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def page(found: Plan, *, width: int = 100, num_choices: int = 3) -> PlanPage:
    return PlanPage(plan=found, unit_id=UNIT, spec=job(), inventory=inventory(), width=width, num_choices=num_choices)


def text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def test_a_full_plan() -> None:
    check_golden(text(plan_lines(page(plan()))), HERE / "full.txt")


def test_a_plan_that_leaves_the_job_out() -> None:
    check_golden(text(plan_lines(page(infeasible_plan()))), HERE / "infeasible.txt")


def test_nothing_is_wider_than_asked_but_what_cannot_be_broken() -> None:
    for width in (100, 120):
        lines = plan_lines(page(plan(), width=width))
        assert max(len(line) for line in lines) <= width


def test_colour_changes_no_letter() -> None:
    coloured = plan_lines(replace(page(plan()), style=paint))
    assert text(coloured) != text(plan_lines(page(plan())))

    assert re.sub(r"\x1b\[[0-9;]*m", "", text(coloured)) == text(plan_lines(page(plan())))
