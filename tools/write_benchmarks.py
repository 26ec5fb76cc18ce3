"""Writes ``docs/benchmarks.md`` from the figures that are kept in ``benchmarks/results``.

``make bench`` runs every benchmark; ``python tools/write_benchmarks.py --keep`` takes over what it wrote, and writes the page.
Without ``--keep`` the page is written from what was kept before, with ``--check`` it is only compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.pages import write_or_check

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"
FRESH = ROOT / ".out" / "bench"

_INTRODUCTION = """\
# Figures

Made by `make bench` and written here by `tools/write_benchmarks.py`. Each benchmark can be run alone:
`.venv/bin/python benchmarks/NAME.py` prints its table, and `--help` says what is measured and how. Machines differ, and shared
ones are noisy: compare ratios, not seconds.
"""


def main(argv: list[str] | None = None) -> int:
    """Keep, write or check; returns the exit status for the shell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="take over the figures of the last make bench")
    parser.add_argument("--check", action="store_true", help="exit 1 when the page is not current")
    options = parser.parse_args(argv)
    if options.keep:
        keep(FRESH, RESULTS)
    return write_or_check(PAGE, page(), script=Path(__file__).name, check=options.check)


def keep(fresh: Path, results: Path) -> None:
    """Copy figures, goals and environment of every benchmark in ``fresh``; the details stay behind. A null figure is kept too."""
    results.mkdir(exist_ok=True)
    for path in sorted(fresh.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        kept = {key: document[key] for key in ("figures", "goals", "environment")}
        (results / path.name).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def page(results: Path = RESULTS) -> str:
    """The page."""
    sections = [section(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(results.glob("*.json"))]
    return "\n".join([_INTRODUCTION, *sections])


def section(name: str, document: Mapping[str, Any]) -> str:
    """One benchmark: where it ran, and its figures."""
    where = document["environment"]
    versions = ", ".join(f"{package} {version}" for package, version in where["versions"].items())
    machine = f"{where['cores']} cores of {where['cpu']}, Python {where['python']}, {versions}"
    lines = [
        f"## {name}",
        "",
        f"`benchmarks/{name}.py` at commit `{where['commit'][:12]}` on {where['date']}: {machine}.",
        "",
        "| Figure | Value | Goal |",
        "|---|---|---|",
    ]
    for figure, value in document["figures"].items():
        lines.append(
            f"| `{figure}` | {'not reached' if value is None else f'{value:.4g}'} | {document['goals'].get(figure, '')} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
