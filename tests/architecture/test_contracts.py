"""Import contracts and complexity, by the tools that the developers run, with this repository's own settings."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
BRANCHY = "def f(x: int) -> int:\n" + "".join(f"    if x == {n}:\n        return {n}\n" for n in range(11)) + "    return 0\n"
SCHEDULER_PARTS = ("core", "service", "adapters", "entrypoints")


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter in a tree; the code of that tree comes first on the path."""
    return subprocess.run(
        [str(BIN / "lint-imports"), "--no-cache", "--config", str(root / "pyproject.toml")],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(root), "PATH": str(BIN), "COLUMNS": "200"},
    )


def test_import_contracts_hold(repository: Path) -> None:
    done = lint_imports(repository)
    assert done.returncode == 0, done.stdout + done.stderr
    contracts = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"Contracts: {len(contracts)} kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("trimtab/a.py", "planner", "Scheduler above planner and workers"),
        ("planner/a.py", "workers", "Scheduler above planner and workers"),
        ("scheduler/adapters/a.py", "workers", "never imports them"),
        ("scheduler/core/a.py", "scheduler.service", "Layers inside the scheduler"),
        ("scheduler/service/a.py", "scheduler.adapters", "Layers inside the scheduler"),
        ("scheduler/service/a.py", "planner", "Only the scheduler's adapters know the planner"),
        ("scheduler/entrypoints/a.py", "planner", "Only the scheduler's adapters know the planner"),
        ("scheduler/adapters/a.py", "pulp", "PuLP and HiGHS stay in the planner"),
        ("scheduler/service/a.py", "redis", "Redis, Ray and Kubernetes"),
        ("scheduler/adapters/a.py", "fastapi", "FastAPI and Typer"),
        ("planner/a.py", "torch", "torch stays in the workers"),
    ],
)
def test_import_contracts_catch(repository: Path, tmp_path: Path, module: str, imported: str, contract: str) -> None:
    shutil.copy(repository / "pyproject.toml", tmp_path)
    for package in ("trimtab", "planner", "workers", "scheduler", *(f"scheduler/{part}" for part in SCHEDULER_PARTS)):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for name in ("ports", "config"):
        (tmp_path / "scheduler" / f"{name}.py").touch()
    (tmp_path / module).write_text(f"import {imported}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if contract in line and line.endswith("BROKEN")], done.stdout


def ruff(root: Path, *paths: str) -> subprocess.CompletedProcess[str]:
    """Run the complexity and parameter rules with the settings in `root`."""
    command = [str(BIN / "ruff"), "check", "--no-cache", "--select", "C901,PLR0913", *paths]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_no_function_is_too_complex(repository: Path) -> None:
    done = ruff(repository, "trimtab", "planner", "scheduler", "workers", "tools")
    assert done.returncode == 0, done.stdout


def test_complexity_check_catches(repository: Path, tmp_path: Path) -> None:
    shutil.copy(repository / "pyproject.toml", tmp_path)
    (tmp_path / "planner").mkdir()
    (tmp_path / "planner" / "a.py").write_text(BRANCHY)
    done = ruff(tmp_path, "planner")
    assert done.returncode == 1, done.stderr
    assert "C901" in done.stdout
