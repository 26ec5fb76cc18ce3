"""The printed tables of the accuracy benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks._accuracy_calibration import Example, Outcome, Seeds, Summary
from benchmarks._accuracy_evaluation import Evaluation, class_of
from benchmarks._accuracy_memory import peaks, wrong_verdicts
from benchmarks._accuracy_metrics import error_frac

_WAYS = ("calibrated", "one_row", "raw")


def page(found: Evaluation, *, goals: dict[str, str], all_rows: bool) -> str:
    """All tables."""
    parts = [
        class_table(found.summaries, title="Errors of the step time by class of rows"),
        class_table(
            {"tpu": found.from_flops["tpu"], "all": found.from_flops["all"]}, title="Rows whose step follows from FLOP/s"
        ),
        group_table(found, title="By group", key=lambda example: " / ".join(example.group)),
        group_table(found, title="By framework", key=lambda example: example.row.truth.framework),
        sweep_table(found),
        memory_table(found),
        row_table(_mixed(found), found, title="Jobs on several device types, raw"),
        row_table(worst(found, 15), found, title="The 15 worst rows (calibrated where the group can be, else raw)"),
    ]
    if all_rows:
        parts.append(row_table(sorted(found.examples, key=lambda example: example.group), found, title="All rows"))
    return "\n\n".join([*parts, reasons(found), figure_table(found.figures, goals)])


def class_table(summaries: dict[str, dict[str, Summary | None]], *, title: str) -> str:
    """Mean over rows, median, mean over groups, n rows and groups; calibrated, with one row and raw."""
    lines = [title, f"{'':<26}" + "".join(f"{way + ': mean median groups   n (groups)':>42}" for way in _WAYS)]
    for name, ways in summaries.items():
        cells = []
        for way in _WAYS:
            own = ways[way]
            text = "-"
            if own is not None:
                shown = f"{own.mean_frac:>8.1%}{own.median_frac:>8.1%}{own.group_mean_frac:>8.1%}"
                text = f"{shown}{own.num_rows:>5} ({own.num_groups})"
            cells.append(f"{text:>42}")
        lines.append(f"{name:<26}" + "".join(cells))
    return "\n".join(lines)


def group_table(found: Evaluation, *, title: str, key: Callable[[Example], str]) -> str:
    """For each value of ``key``: rows, raw bias and error, calibrated and one-row error, cover."""
    header = f"{title:<72}{'n':>5}{'bias':>8}{'raw':>8}{'calib.':>8}{'1 row':>8}{'cover':>7}"
    names = dict.fromkeys(key(example) for example in found.examples)
    lines = [header]
    for name in sorted(names):
        raw = _of(found.steps.raw, key, name)
        bias = statistics.median(outcome.prediction.step_s / outcome.example.measured_s for outcome in raw) - 1.0
        cover = statistics.fmean(outcome.covers for outcome in _of(found.steps.best, key, name))
        cells = [_mean(_of(seeds, key, name)) for seeds in (found.steps.raw, found.steps.calibrated, found.steps.one_row)]
        lines.append(f"{name:<72}{len(raw):>5}{bias:>+8.1%}" + "".join(f"{cell:>8}" for cell in cells) + f"{cover:>7.0%}")
    return "\n".join(lines)


def _of(seeds: Seeds, key: Callable[[Example], str], name: str) -> list[Outcome]:
    return [outcome for outcomes in seeds for outcome in outcomes if key(outcome.example) == name]


def _mean(outcomes: Sequence[Outcome]) -> str:
    return f"{statistics.fmean(outcome.error_frac for outcome in outcomes):.1%}" if outcomes else "-"


def sweep_table(found: Evaluation) -> str:
    """One line per sweep."""
    lines = [f"{'Sweeps':<64}{'n':>5}{'Spearman':>10}{'best of 3':>11}{'first':>8}"]
    for sweep in found.sweeps:
        regrets = f"{sweep.regret_best_of_three_frac:>11.1%}{sweep.regret_first_frac:>8.1%}"
        lines.append(f"{sweep.name:<64}{sweep.num_rows:>5}{sweep.spearman:>10.3f}{regrets}")
    return "\n".join(lines)


def memory_table(found: Evaluation) -> str:
    """Peaks by framework, those whose unit is not known one by one, and every wrong verdict."""
    all_peaks = peaks(found.predicted)
    if not all_peaks:
        return "Memory: not predicted"
    lines = [f"{'Memory, by framework':<40}{'n':>5}{'mean':>8}{'worst':>8}"]
    for framework in sorted({peak.row.truth.framework for peak in all_peaks}):
        errors = [peak.error_frac for peak in all_peaks if peak.row.truth.framework == framework]
        lines.append(f"{framework:<40}{len(errors):>5}{statistics.fmean(errors):>8.1%}{max(errors):>8.1%}")
    lines.append("Peaks whose unit is GB or GiB, at the nearer reading:")
    for peak in all_peaks:
        if not peak.unit_is_known:
            made, real = (size / (1e9 if peak.unit == "GB" else 2**30) for size in (peak.predicted_bytes, peak.measured_bytes))
            lines.append(f"  {peak.row.truth.id:<64}{made:>8.1f} for {real:>6.1f} {peak.unit:<4}{peak.error_frac:>8.1%}")
    return "\n".join([*lines, *(wrong_verdicts(found.predicted) or ["No wrong verdict on what fits"])])


def scored(found: Evaluation) -> dict[int, tuple[float, float]]:
    """Mean predicted step and mean error over the seeds, by the index of the example; drawn rows of all seeds are missing."""
    own: dict[int, list[Outcome]] = {}
    for outcomes in found.steps.best:
        for outcome in outcomes:
            own.setdefault(outcome.example.index, []).append(outcome)
    return {
        index: (
            statistics.fmean(outcome.prediction.step_s for outcome in outcomes),
            statistics.fmean(outcome.error_frac for outcome in outcomes),
        )
        for index, outcomes in own.items()
    }


def worst(found: Evaluation, number: int) -> list[Example]:
    """The examples with the largest errors."""
    errors = scored(found)
    known = [example for example in found.examples if example.index in errors]
    return sorted(known, key=lambda example: -errors[example.index][1])[:number]


def _mixed(found: Evaluation) -> list[Example]:
    return [example for example in found.examples if example.row.input.is_mixed]


def row_table(examples: Iterable[Example], found: Evaluation, *, title: str) -> str:
    """One line per row: measured, raw prediction with its error, the error calibrated (or raw where that cannot be)."""
    errors = scored(found)
    lines = [f"{title:<82}{'class':<25}{'measured s':>11}{'raw s':>10}{'ratio':>7}{'error':>8}"]
    for example in examples:
        raw_s, measured_s = example.prediction.step_s, example.measured_s
        error = f"{errors[example.index][1]:.1%}" if example.index in errors else "-"
        cells = f"{measured_s:>11.4g}{raw_s:>10.4g}{raw_s / measured_s:>7.2f}{error:>8}"
        lines.append(f"{example.row.truth.id[:80]:<82}{class_of(example.row):<25}{cells}")
    return "\n".join(lines)


def reasons(found: Evaluation) -> str:
    """Why rows were refused or left out."""
    refused = [f"refused, {reason}: {number}" for reason, number in found.refused.items()]
    return "\n".join([*refused, *(f"left out, {reason}: {number}" for reason, number in found.left_out.items())])


def figure_table(figures: dict[str, float | None], goals: dict[str, str]) -> str:
    """Every figure and its goal."""
    return "\n".join(
        f"{name:<52}{'not known' if value is None else f'{value:.4g}':>12}  {goals.get(name, '')}".rstrip()
        for name, value in figures.items()
    )


def details(found: Evaluation) -> dict[str, Any]:
    """What goes into the JSON document beside the figures."""
    errors = scored(found)
    return {
        "rows": [
            {
                "id": example.row.truth.id,
                "group": example.group,
                "class": class_of(example.row),
                "measured_s": example.measured_s,
                "raw_s": example.prediction.step_s,
                "raw_error_frac": error_frac(example.prediction.step_s, example.measured_s),
                "error_frac": errors[example.index][1] if example.index in errors else None,
            }
            for example in found.examples
        ],
        "sweeps": {sweep.name: sweep.spearman for sweep in found.sweeps},
        "refused": found.refused,
        "left_out": found.left_out,
        "wrong_verdicts": wrong_verdicts(found.predicted),
    }
