"""One evaluation of a predictor on a file of points: what is predicted, what is scored, and every figure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks._accuracy_calibration import Calibrate, Example, Summary
from benchmarks._accuracy_memory import Predicted, memory_figures
from benchmarks._accuracy_metrics import error_frac
from benchmarks._accuracy_ranking import Sweep, noise_figures, ranking_figures, sweeps
from benchmarks._accuracy_step import CLASSES, StepResults, class_summaries, interval_figures, score_steps, step_figures
from benchmarks._point_types import Points, Row, RowInput
from benchmarks._row_prediction import RowPrediction

PredictRows = Callable[[Sequence[RowInput]], list[RowPrediction]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """The two functions of a predictor's module."""

    predict_rows: PredictRows
    calibrated: Calibrate


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that was found. ``refused`` counts the reasons; ``left_out`` why rows of the file are not scored."""

    figures: dict[str, float | None]
    examples: tuple[Example, ...]
    steps: StepResults
    summaries: dict[str, dict[str, Summary | None]]
    from_flops: dict[str, dict[str, Summary | None]]
    sweeps: tuple[Sweep, ...]
    predicted: Predicted
    refused: dict[str, int]
    left_out: dict[str, int]


def evaluate(points: Points, predictor: Predictor, *, calibrate_on: Points | None = None) -> Evaluation:
    """Predict and score every row that has something to be compared with."""
    predicted = predict(points, predictor.predict_rows)
    examples = examples_of(predicted)
    other, other_flops = None, None
    if calibrate_on is not None:
        other_predicted = predict(calibrate_on, predictor.predict_rows)
        other, other_flops = examples_of(other_predicted), examples_of(_by_flops(other_predicted))
    steps = score_steps(examples, predictor.calibrated, other_file=other)
    summaries = class_summaries(steps)
    by_flops = examples_of(_by_flops(predicted))
    from_flops = class_summaries(score_steps(by_flops, predictor.calibrated, other_file=other_flops))
    found = sweeps(examples)
    refused = Counter(prediction.refused for _, prediction in predicted if prediction.refused)
    figures = {
        **step_figures(summaries),
        **interval_figures(steps.best),
        **{f"raw_{name}": value for name, value in interval_figures(steps.raw).items() if name == "interval80_cover_frac"},
        **memory_figures(predicted),
        **ranking_figures(found),
        **noise_figures(examples),
        **_from_flops_figures(from_flops),
        **_competitor_figures(examples, predicted),
        "rows_count": float(len(predicted)),
        "rows_with_step_count": float(len(examples)),
        "rows_refused_count": float(sum(refused.values())),
    }
    return Evaluation(
        figures=figures,
        examples=tuple(examples),
        steps=steps,
        summaries=summaries,
        from_flops=from_flops,
        sweeps=tuple(found),
        predicted=predicted,
        refused=dict(refused),
        left_out=left_out(points),
    )


def has_figure(row: Row) -> bool:
    """Whether there is anything that a prediction of the row can be compared with."""
    truth = row.truth
    known = (truth.step_s, truth.step_from_flops_s, truth.memory_gib, truth.memory_gb_reported)
    return truth.out_of_memory or any(value is not None for value in known)


def predict(points: Points, predict_rows: PredictRows) -> list[tuple[Row, RowPrediction]]:
    """The predictions of all rows that can be compared and are not suspect."""
    rows = [row for row in (*points.rows, *points.memory_rows) if has_figure(row) and not row.truth.suspect]
    predictions = predict_rows([row.input for row in rows])
    assert len(predictions) == len(rows), "one prediction per row"
    return list(zip(rows, predictions, strict=True))


def examples_of(predicted: Predicted) -> list[Example]:
    """The predicted rows that have a measured step."""
    return [
        Example(index=index, row=row, prediction=prediction)
        for index, (row, prediction) in enumerate(predicted)
        if row.truth.step_s is not None and not row.truth.out_of_memory and not prediction.refused
    ]


def left_out(points: Points) -> dict[str, int]:
    """How many rows are not predicted, by reason."""
    reasons = Counter[str]()
    for row in (*points.rows, *points.memory_rows):
        if row.truth.suspect:
            reasons["suspect"] += 1
        elif not has_figure(row):
            reasons[
                "no global batch" if row.input.global_batch is None else "no step time, rate or FLOP/s of a known formula"
            ] += 1
    return dict(reasons)


def _by_flops(predicted: Predicted) -> list[tuple[Row, RowPrediction]]:
    """The rows without a step time, with the one that their printed FLOP/s mean in its place."""
    return [
        (replace(row, truth=replace(row.truth, step_s=row.truth.step_from_flops_s)), prediction)
        for row, prediction in predicted
        if row.truth.step_s is None and row.truth.step_from_flops_s is not None
    ]


def _from_flops_figures(summaries: dict[str, dict[str, Summary | None]]) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    for name, kept in (("from_flops", "all"), ("tpu_from_flops", "tpu")):
        for way, label in (("calibrated", "mean_frac"), ("raw", "raw_mean_frac")):
            found = summaries[kept][way]
            figures[f"{name}_{label}"] = found.mean_frac if found else None
        found = summaries[kept]["raw"]
        figures[f"{name}_rows_count"] = float(found.num_rows) if found else 0.0
    return figures


def _competitor_figures(examples: Sequence[Example], predicted: Predicted) -> dict[str, float | None]:
    """The errors of other systems' own predictions, and ours, raw, on the same rows."""
    rivals = [(example, example.row.truth.competitor_step_s) for example in examples]
    steps = [(example, rival) for example, rival in rivals if rival is not None]
    memory = [
        error_frac(row.truth.competitor_memory_gib, row.truth.memory_gib)
        for row, _ in predicted
        if row.truth.competitor_memory_gib is not None and row.truth.memory_gib is not None
    ]
    theirs = [error_frac(rival, example.measured_s) for example, rival in steps]
    ours = [error_frac(example.prediction.step_s, example.measured_s) for example, _ in steps]
    return {
        "competitor_step_mean_frac": statistics.fmean(theirs) if theirs else None,
        "same_rows_raw_step_mean_frac": statistics.fmean(ours) if ours else None,
        "competitor_memory_mean_frac": statistics.fmean(memory) if memory else None,
    }


def class_of(row: Row) -> str:
    """The first class that a row belongs to."""
    return next(name for name, keep in CLASSES.items() if keep(row))
