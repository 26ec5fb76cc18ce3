"""The comparison of two plans and the table of what-if questions, line by line."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from scheduler.entrypoints.cli.console import paint
from scheduler.entrypoints.cli.planprint.page import plain
from scheduler.entrypoints.cli.planprint.sidebyside import comparison_lines
from scheduler.entrypoints.cli.planprint.whatif import WhatIfRow, whatif_lines
from scheduler.service.comparison import Comparison, PlanSide, compare
from tests.golden.golden import check_golden
from tests.support.plans import STRATEGY, candidate, infeasible_plan, inventory, job

HERE = Path(__file__).parent
A = candidate(STRATEGY, step_s=3.2, cost_usd=624.0, nodes=4)
B = candidate(replace(STRATEGY, tp=4, pp=1, stage_layers=()), step_s=2.9, cost_usd=1300.0, nodes=4)


def comparison() -> Comparison:
    spec = job()
    assert spec.train is not None
    other = replace(spec, train=replace(spec.train, num_steps=40))
    one = PlanSide(name="a.json (plan of 2026-01-10)", candidate=A, spec=spec, inventory=inventory())
    return compare(one, PlanSide(name="job.yaml (planned now)", candidate=B, spec=other, inventory=inventory()))


def rows() -> list[WhatIfRow]:
    return [
        WhatIfRow(name="as it is", candidate=A),
        WhatIfRow(name="devices*2", candidate=B),
        WhatIfRow(name="price*0.5", candidate=replace(A, cost_usd=A.cost_usd.scaled(0.5))),
        WhatIfRow(name="memory*0.1", candidate=None, unplaced=infeasible_plan().unplaced[0]),
    ]


def text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def bare(lines: list[str]) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text(lines))


def test_a_comparison() -> None:
    check_golden(text(comparison_lines(comparison(), width=100, style=plain)), HERE / "compare.txt")


def test_the_table_of_what_if_questions() -> None:
    check_golden(text(whatif_lines(rows(), wide=False, width=100, style=plain)), HERE / "whatif.txt")
    check_golden(text(whatif_lines(rows(), wide=True, width=100, style=plain)), HERE / "whatif-wide.txt")


def test_colour_changes_no_letter() -> None:
    coloured = comparison_lines(comparison(), width=100, style=paint)
    assert text(coloured) != bare(coloured) == text(comparison_lines(comparison(), width=100, style=plain))
    table = whatif_lines(rows(), wide=False, width=100, style=paint)
    assert text(table) != bare(table) == text(whatif_lines(rows(), wide=False, width=100, style=plain))
