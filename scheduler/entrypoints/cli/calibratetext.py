"""Multipliers and their runs as tables: each prediction before and after, beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scheduler.entrypoints.cli.columns import table
from scheduler.entrypoints.cli.words import digits, interval_text, moment_text, plural, seconds_text
from trimtab.measurement import CheckedRun, Multiplier

Style = Callable[..., str]
_HEADER = ["  run", "model", "strategy", "steps", "predicted", "measured", "ratio", "calibrated", "began"]
_RIGHT = frozenset({3, 4, 5, 6, 7})


def calibration_lines(found: Sequence[Multiplier], *, sources: frozenset[str] | None, style: Style) -> list[str]:
    """Each key with its multiplier, and its runs (``sources``: only these); what to know of them last."""
    lines: list[str] = []
    for entry in found:
        m = entry.multiplier
        shown = [run for run in entry.runs if sources is None or run.measurement.source in sources]
        head = style(str(entry.key), "bold")
        interval = f"{digits(m.value, 4)} ({digits(m.low, 4)}–{digits(m.high, 4)})"
        lines.append(f"{head}  predictions times {interval}, 80 % interval, by {plural(len(entry.runs), 'run')}")
        lines += table([_row(run) for run in shown], header=_HEADER, right=_RIGHT)
        lines += [style(f"  {warning}", "yellow") for warning in entry.warnings]
        lines.append("")
    return lines[:-1]


def _row(run: CheckedRun) -> list[str]:
    entry = run.measurement
    return [
        f"  {entry.source}",
        entry.model,
        entry.strategy,
        f"{entry.num_steps:,}",
        interval_text(run.predicted_s, "seconds"),
        seconds_text(entry.measured_s),
        f"{entry.ratio:.3f}",
        interval_text(run.calibrated_s, "seconds"),
        moment_text(entry.at) + (f"  {run.note}" if run.note else ""),
    ]
