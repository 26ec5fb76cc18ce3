"""What every test run prints and checks beside its tests.

At the end: minutes per suite; the list of what was left out and why; and a failure when a process of this run is
still alive. TRIMTAB_NO_SKIPS=1 turns each left-out test into a failure; TRIMTAB_SLOW=1 takes in the slow ones.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.leftovers import Leftover, end_all, find_leftovers

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

ROOT = Path(__file__).resolve().parent
RUN_MARK = "TRIMTAB_TEST_RUN"
NO_SKIPS = os.environ.get("TRIMTAB_NO_SKIPS") == "1"
WITH_SLOW = NO_SKIPS or os.environ.get("TRIMTAB_SLOW") == "1"
LEFTOVER_GRACE_S = float(os.environ.get("TRIMTAB_TEST_GRACE_S", "10"))
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class RunReport:
    """Collects minutes, left-out tests and left-over processes of one run, and prints them at its end."""

    def __init__(self, run_id: str, home: Path) -> None:
        self.run_id = run_id
        self.home = home
        self.seconds: dict[str, float] = defaultdict(float)
        self.num_tests: dict[str, int] = defaultdict(int)
        self.left_out: dict[str, str] = {}
        self.num_deselected = 0
        self.leftovers: Sequence[Leftover] = ()

    @property
    def num_left_out(self) -> int:
        """Tests that were not run, for whatever reason."""
        return len(self.left_out) + self.num_deselected

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test to its suite."""
        suite = suite_of(report.nodeid)
        self.seconds[suite] += report.duration
        self.num_tests[suite] += report.when == "call"
        if report.skipped and not hasattr(report, "wasxfail"):
            self.left_out[report.nodeid] = skip_reason(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module or folder may be skipped as a whole."""
        if report.skipped:
            self.left_out[report.nodeid] = skip_reason(report)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Tests that the command line left out."""
        self.num_deselected += len(items)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Look for processes that this run left behind, and fail the run for them and for left-out tests."""
        self.leftovers = find_leftovers(RUN_MARK, self.run_id, grace_s=LEFTOVER_GRACE_S)
        end_all(self.leftovers)
        shutil.rmtree(self.home, ignore_errors=True)
        failed = bool(self.leftovers) or (NO_SKIPS and self.num_left_out > 0)
        if failed and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The three lists."""
        write = terminalreporter.write_line
        if self.seconds:
            write("")
            write("minutes per suite:")
            for suite, seconds in sorted(self.seconds.items()):
                write(f"  {suite:<14} {seconds / 60:6.2f} min  {self.num_tests[suite]:5d} tests")
        write("")
        write(f"left out: {self.num_left_out}" + (" (each is a failure: TRIMTAB_NO_SKIPS=1)" if NO_SKIPS else ""))
        if self.num_deselected:
            write(f"  {self.num_deselected} tests: deselected on the command line")
        for nodeid, reason in sorted(self.left_out.items()):
            write(f"  {nodeid}: {reason}")
        if self.leftovers:
            write("")
            write(f"ERROR: {len(self.leftovers)} processes of this run were still alive at its end, now killed:")
            for leftover in self.leftovers:
                write(f"  {leftover}")


def suite_of(nodeid: str) -> str:
    """The suite of a test: the folder below tests/."""
    parts = nodeid.split("::", 1)[0].split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "tests" else "other"


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The words that a skip was given."""
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


def pytest_configure(config: pytest.Config) -> None:
    """Limit threads, keep out of the user's own state, mark this run for every child, register the report."""
    for name in THREADS:
        os.environ.setdefault(name, "1")
    if hasattr(config, "workerinput"):
        # A worker of pytest-xdist: the controller reports, and its mark is already in the environment.
        return
    run_id = uuid.uuid4().hex
    os.environ[RUN_MARK] = run_id
    # Short, because a unix socket in it may have about a hundred bytes of path.
    home = Path(tempfile.mkdtemp(prefix="tt-"))
    os.environ["TRIMTAB_HOME"] = str(home)
    config.pluginmanager.register(RunReport(run_id, home), "trimtab-run-report")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave slow tests out, by a skip that says so, unless they are asked for."""
    if WITH_SLOW:
        return
    reason = "slow: over about 20 s; run with TRIMTAB_SLOW=1, as .ci/run does"
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With TRIMTAB_NO_SKIPS=1, a skipped test is a failed one."""
    report = yield
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"left out, and TRIMTAB_NO_SKIPS=1 makes that a failure: {skip_reason(report)}"
    return report


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT.parent
