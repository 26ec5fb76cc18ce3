"""The page of figures is made from what was kept."""

from __future__ import annotations

import json
from pathlib import Path

from tools import write_benchmarks

DOCUMENT = {
    "figures": {"step_frac": 0.123456, "plan_s": None},
    "goals": {"step_frac": "at most 0.2"},
    "details": ["long"],
    "environment": {
        "commit": "0123456789abcdef",
        "date": "2026-11-01",
        "python": "3.11",
        "cpu": "Some CPU",
        "cores": 2,
        "versions": {"torch": "2.9"},
    },
}


def test_the_page_is_current() -> None:
    assert write_benchmarks.PAGE.read_text(encoding="utf-8") == write_benchmarks.page(), "run python tools/write_benchmarks.py"


def test_kept_figures_come_on_the_page_without_their_details(tmp_path: Path) -> None:
    fresh, results = tmp_path / "fresh", tmp_path / "results"
    fresh.mkdir()
    (fresh / "speed.json").write_text(json.dumps(DOCUMENT))
    write_benchmarks.keep(fresh, results)
    assert "details" not in json.loads((results / "speed.json").read_text())
    text = write_benchmarks.page(results)
    assert "| `step_frac` | 0.1235 | at most 0.2 |" in text
    assert "| `plan_s` | not reached |  |" in text
    assert "at commit `0123456789ab` on 2026-11-01: 2 cores of Some CPU, Python 3.11, torch 2.9." in text
