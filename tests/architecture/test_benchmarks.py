"""Each benchmark runs in its short form, and its figures carry their units."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = re.compile(r"_(frac|s|ratio|per_s|gib|bytes|count|usd|usd_per_hour|tokens_per_s|h|points|bleu|nats)$|^spearman_mean$")
BENCHMARKS = sorted(
    path
    for path in (ROOT / "benchmarks").glob("*.py")
    if not path.name.startswith("_") and re.search(r"^def main\(", path.read_text(), re.MULTILINE)
)


def check_figures(written: dict[str, object]) -> list[str]:
    """What a benchmark's JSON lacks of the convention: figures named with units, goals, details, environment."""
    problems = [f"no {key!r}" for key in ("figures", "goals", "details", "environment") if key not in written]
    figures = written.get("figures")
    if not isinstance(figures, dict) or not figures:
        return [*problems, "figures is not a mapping with at least one figure"]
    problems += [f"{name}: the name does not end in a unit" for name in figures if not UNITS.search(name)]
    problems += [
        f"{name}: {value!r} is neither a number nor null"
        for name, value in figures.items()
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float))
    ]
    environment = written.get("environment")
    missing = {"commit", "python", "cpu", "versions"} - set(environment if isinstance(environment, dict) else ())
    return problems + [f"environment lacks {key}" for key in sorted(missing)]


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmark_runs_in_short_form(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, str(path), "--smoke", "--json", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip(), "no table on standard output"
    assert check_figures(json.loads(out.read_text())) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"figures": {"speed": 1.0}}, "speed: the name does not end in a unit"),
        ({"figures": {"help_s": "fast"}}, "help_s: 'fast' is neither a number nor null"),
        ({"figures": {}}, "figures is not a mapping with at least one figure"),
        ({"environment": {"python": "3"}}, "environment lacks commit"),
    ],
)
def test_figure_check_catches(change: dict[str, object], problem: str | None) -> None:
    sound: dict[str, object] = {
        "figures": {"help_s": 0.3, "error_frac": None},
        "goals": {},
        "details": {},
        "environment": {"commit": "c", "python": "3", "cpu": "x", "versions": {}},
    }
    found = check_figures(sound | change)
    assert found == [] if problem is None else problem in found
