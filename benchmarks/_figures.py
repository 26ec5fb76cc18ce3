"""What every benchmark writes: figures, details and the environment that they were made in."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from trimtab.fingerprint import node_facts

ROOT = Path(__file__).resolve().parents[1]


def write_figures(
    path: Path | None,
    figures: Mapping[str, float | None],
    *,
    details: object,
    goals: Mapping[str, str],
    packages: tuple[str, ...],
) -> None:
    """Write the JSON document of a benchmark to ``path``; nothing where there is none.

    ``goals`` says in words what a figure is to reach; ``packages`` are those whose versions matter.
    """
    if path is None:
        return
    unknown = sorted(set(goals) - set(figures))
    assert not unknown, f"goals for figures that are not there: {unknown}"
    document = {"figures": dict(figures), "goals": dict(goals), "details": details, "environment": environment(packages)}
    path.write_text(json.dumps(document, indent=1) + "\n")


def environment(packages: tuple[str, ...]) -> dict[str, object]:
    """Commit, day, Python, processor and versions."""
    git = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "commit": commit or "unknown",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "cpu": node_facts().cpu_model,
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in packages},
    }
