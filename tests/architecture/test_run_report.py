"""The report at the end of a test run: what was left out, minutes, and processes that were left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

SKIPPING = """
import pytest
def test_runs(): pass
def test_left_out(): pytest.skip("no such device")
@pytest.mark.slow
def test_long(): pass
@pytest.mark.xfail(strict=True, reason="known")
def test_expected(): assert False
"""
MODULE_SKIP = """
import pytest
pytest.skip("no torch here", allow_module_level=True)
"""
LEAKING = """
import os, subprocess, sys
def test_leaks():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print("leaked", child.pid)
def test_ends_its_child():
    subprocess.run([sys.executable, "-c", "pass"], check=True)
"""


def run_pytest(repository: Path, folder: Path, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one test file under the house's conftest, in a process of its own."""
    (folder / "tests" / "unit").mkdir(parents=True)
    (folder / "tests" / "unit" / "test_it.py").write_text(textwrap.dedent(text))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow: long\n")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TRIMTAB_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-s", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=inherited | environment | {"PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_left_out_tests_are_listed_with_reasons(repository: Path, tmp_path: Path) -> None:
    done = run_pytest(repository, tmp_path, SKIPPING)
    assert done.returncode == 0, done.stdout
    assert "left out: 2" in done.stdout
    assert "test_left_out: no such device" in done.stdout
    assert "test_long: slow" in done.stdout
    assert "  unit " in done.stdout
    assert "1 passed, 2 skipped, 1 xfailed" in done.stdout


def test_no_skips_makes_left_out_tests_failures_and_runs_slow_ones(repository: Path, tmp_path: Path) -> None:
    done = run_pytest(repository, tmp_path, SKIPPING, TRIMTAB_NO_SKIPS="1")
    assert done.returncode == 1, done.stdout
    assert "1 failed, 2 passed, 1 xfailed" in done.stdout


def test_no_skips_makes_a_skipped_module_a_failure(repository: Path, tmp_path: Path) -> None:
    done = run_pytest(repository, tmp_path, MODULE_SKIP, TRIMTAB_NO_SKIPS="1")
    assert done.returncode == 1, done.stdout
    assert "no torch here" in done.stdout


@pytest.mark.parametrize("environment", [{}, {"TRIMTAB_NO_SKIPS": "1"}])
def test_slow_tests_run_when_asked(repository: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    slow = "import pytest\n@pytest.mark.slow\ndef test_long(): pass\n"
    done = run_pytest(repository, tmp_path, slow, TRIMTAB_SLOW="1", **environment)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_deselected_tests_are_counted(repository: Path, tmp_path: Path) -> None:
    done = run_pytest(repository, tmp_path, SKIPPING, PYTEST_ADDOPTS="-k runs")
    assert done.returncode == 0, done.stdout
    assert "left out: 3" in done.stdout
    assert "3 tests: deselected on the command line" in done.stdout


def test_a_process_left_behind_fails_the_run_and_is_ended(repository: Path, tmp_path: Path) -> None:
    done = run_pytest(repository, tmp_path, LEAKING, TRIMTAB_TEST_GRACE_S="0.5")
    assert done.returncode == 1, done.stdout
    assert "1 processes of this run were still alive" in done.stdout
    assert "test_leaks" in done.stdout.split("still alive", 1)[1]
    (leaked,) = map(int, re.findall(r"leaked (\d+)", done.stdout))
    psutil.wait_procs([psutil.Process(leaked)] if psutil.pid_exists(leaked) else [], timeout=10)
    assert not psutil.pid_exists(leaked) or psutil.Process(leaked).status() == psutil.STATUS_ZOMBIE
