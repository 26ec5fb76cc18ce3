"""How fast the command line is: ``trimtab --help`` against a bare Typer app with as many commands, and ``trimtab plan``.

All sides start the same interpreter; their runs alternate, so that whatever else the machine does falls on all. Figures are
medians, the spread is the distance of the quartiles over the median. The bare app is printed twice: as Typer makes it (help by
rich), and without rich, as ours is. ``--smoke`` (under 5 s on an idle machine) proves only that it runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks._figures import write_figures  # noqa: E402
from scheduler.entrypoints.cli.app import ENTRIES  # noqa: E402

JOB = ROOT / "examples" / "stdlib-lm" / "job.yaml"
GOALS = {"help_over_bare_typer_ratio": "at most 1.2", "plan_s": "under 2"}
TRIMTAB = (sys.executable, "-P", "-m", "scheduler.entrypoints.cli.main")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of the runs of one side."""

    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The middle run."""
        return statistics.median(self.seconds)

    @property
    def spread_frac(self) -> float:
        """Distance of the quartiles over the median; 0 with fewer than four runs."""
        if len(self.seconds) < 4:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / self.median_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="runs of each side of the comparison (default: 15)")
    parser.add_argument("--plan-repeats", type=int, default=5, help="runs of trimtab plan (default: 5)")
    parser.add_argument("--smoke", action="store_true", help="one run each, no plan")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures here")
    options = parser.parse_args(arguments)
    repeats, plan_repeats = (1, 0) if options.smoke else (options.repeats, options.plan_repeats)
    with tempfile.TemporaryDirectory(prefix="tt-bench-") as folder:
        home = Path(folder)
        bare, plain = home / "bare.py", home / "plain.py"
        bare.write_text(bare_app(len(ENTRIES), "typer.Typer()"))
        plain.write_text(bare_app(len(ENTRIES), "typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)"))
        sides = ([*TRIMTAB], [sys.executable, "-P", str(bare)], [sys.executable, "-P", str(plain)])
        ours, other, without_rich = interleaved([[*side, "--help"] for side in sides], repeats, home)
        planned = Timing(seconds=tuple(run_s([*TRIMTAB, "plan", str(JOB)], home) for _ in range(plan_repeats)))
    figures = {
        "help_over_bare_typer_ratio": ours.median_s / other.median_s,
        "help_over_plain_typer_ratio": ours.median_s / without_rich.median_s,
        "help_s": ours.median_s,
        "bare_typer_help_s": other.median_s,
        "plain_typer_help_s": without_rich.median_s,
        "plan_s": planned.median_s if planned.seconds else None,
    }
    show({"help": ours, "bare": other, "plain": without_rich, "plan": planned}, figures)
    timings = {"help": ours, "bare_typer_help": other, "plain_typer_help": without_rich, "plan": planned}
    details = {name: list(timing.seconds) for name, timing in timings.items()}
    write_figures(options.json, figures, details=details, goals=GOALS, packages=("typer", "rich", "pulp", "highspy"))
    return 0


def bare_app(num_commands: int, app: str) -> str:
    """The smallest Typer program with that many commands of one option each."""
    commands = "\n".join(
        f'@app.command()\ndef command_{n}(option: str = "x") -> None:\n    """Does thing number {n}."""\n'
        for n in range(num_commands)
    )
    return f"import typer\n\napp = {app}\n\n{commands}\n\nif __name__ == '__main__':\n    app()\n"


def interleaved(commands: Sequence[Sequence[str]], repeats: int, home: Path) -> list[Timing]:
    """Run all in turn, another one first in each round; a first round does not count (files come into the cache)."""
    seconds: list[list[float]] = [[] for _ in commands]
    if repeats > 1:
        for command in commands:
            run_s(command, home)
    for index in range(repeats):
        for offset in range(len(commands)):
            side = (index + offset) % len(commands)
            seconds[side].append(run_s(commands[side], home))
    return [Timing(seconds=tuple(found)) for found in seconds]


def run_s(command: Sequence[str], home: Path) -> float:
    """Seconds of one run; raises CalledProcessError when it fails."""
    began = time.perf_counter()
    subprocess.run(command, cwd=home, env={**os.environ, "TRIMTAB_HOME": str(home)}, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def show(timings: Mapping[str, Timing], figures: Mapping[str, float | None]) -> None:
    """The table."""
    print(f"{'command':<48} {'runs':>4} {'median':>9} {'spread':>7}")
    names = {
        "help": "trimtab --help",
        "bare": f"bare Typer app, {len(ENTRIES)} commands, --help",
        "plain": "the same without rich",
        "plan": f"trimtab plan {JOB.relative_to(ROOT)}",
    }
    for key, timing in timings.items():
        if timing.seconds:
            print(f"{names[key]:<48} {len(timing.seconds):>4} {timing.median_s:>7.3f} s {timing.spread_frac:>7.0%}")
        else:
            print(f"{names[key]:<48} {'not run (--smoke)':>22}")
    bare, plain = figures["help_over_bare_typer_ratio"], figures["help_over_plain_typer_ratio"]
    print(f"help over bare Typer {bare:.2f} (goal: at most 1.2), over one without rich {plain:.2f}; plan: goal under 2 s")


if __name__ == "__main__":
    sys.exit(main())
