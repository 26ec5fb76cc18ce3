"""Run the long suites and append what they proved to docs/long-run.log: run as `make long`, or `make long SUITES="storm"`.

TRIMTAB_LONG=1 tells a test to take its long form (more seeds, more kills, more examples); TRIMTAB_SEED, drawn
here and written to the log, makes the run repeatable: `make long` again with TRIMTAB_SEED set to it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "docs" / "long-run.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One long suite: a name and what pytest is told to run."""

    name: str
    paths: tuple[str, ...]


SUITES = (
    Suite(name="property", paths=("tests/property",)),
    Suite(name="simulation", paths=("tests/simulation",)),
    Suite(name="contract", paths=("tests/contract", "--ignore=tests/contract/engine")),
    Suite(name="equality", paths=("tests/contract/engine",)),
    Suite(name="e2e", paths=("tests/e2e", "--ignore=tests/e2e/test_storm.py")),
    Suite(name="storm", paths=("tests/e2e/test_storm.py", "-s")),
)


def main(argv: list[str] | None = None) -> int:
    """Run the named suites, or all; returns the exit status for the shell."""
    parser = argparse.ArgumentParser(description="Run the long suites and log what they proved.")
    names = [suite.name for suite in SUITES]
    parser.add_argument("names", nargs="*", metavar="SUITE", help=f"some of: {', '.join(names)}; all when none is given")
    options = parser.parse_args(argv)
    unknown = sorted(set(options.names) - set(names))
    if unknown:
        parser.error(f"no suite {', '.join(unknown)}; there are: {', '.join(names)}")
    seed = int(os.environ.get("TRIMTAB_SEED") or secrets.randbelow(2**31))
    suites = [suite for suite in SUITES if not options.names or suite.name in options.names]
    log(header(seed))
    failed = False
    for suite in suites:
        print(f"long: {suite.name} (seed {seed})", flush=True)
        status, closing, took_min, said = run(suite, seed)
        failed |= status != 0
        log(f"  {suite.name:<12} {took_min:7.1f} min  {'passed' if status == 0 else 'FAILED'}  {closing}")
        for line in said:
            log(f"    {line}")
    print(f"long: {'FAILED' if failed else 'passed'}; written to {LOG.relative_to(ROOT)}")
    return 1 if failed else 0


def log(line: str) -> None:
    """Show a line and keep it at once: a run that is broken off leaves what it proved."""
    print(line, flush=True)
    with LOG.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def header(seed: int) -> str:
    """The first line of an entry: when, which commit, which seed, which machine."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    commit = git("rev-parse", "--short=12", "HEAD")
    changed = " with uncommitted changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (
        f"{now}  commit {commit}{changed}  seed {seed}  Python {platform.python_version()}  "
        f"{platform.system()} {platform.machine()}  {os.cpu_count()} cores"
    )


def git(*arguments: str) -> str:
    """The output of one git command."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def run(suite: Suite, seed: int) -> tuple[int, str, float, list[str]]:
    """Run one suite with its output shown; returns its exit status, pytest's closing line, the minutes, and the lines that begin
    with the suite's name and a colon: what a test has to report.
    """
    command = [sys.executable, "-m", "pytest", *suite.paths, f"--hypothesis-seed={seed}", "-o", "timeout=0"]
    environment = os.environ | {"TRIMTAB_LONG": "1", "TRIMTAB_SLOW": "1", "TRIMTAB_SEED": str(seed)}
    started_s = time.monotonic()
    closing = "no closing line"
    said: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith(f"{suite.name}: "):
                said.append(line.strip())
            if match := re.match(r"=* ?((?:\d+ \w+(?:, )?)+ in [\d.]+s.*?) ?=*$", line.rstrip()):
                closing = match[1]
    return process.returncode, closing, (time.monotonic() - started_s) / 60, said


if __name__ == "__main__":
    sys.exit(main())
