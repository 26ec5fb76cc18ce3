"""The accuracy benchmark as a whole: every figure that is asked for, on predictions whose figures are known."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import _row_predictor
from benchmarks._accuracy_evaluation import Predictor, evaluate
from benchmarks._point_types import Row, RowInput
from benchmarks._points import TRAINING_POINTS, points_of, read_points
from benchmarks._row_prediction import CalibrationRow, RowPrediction, multiplier, refuse
from benchmarks.training_accuracy import GOALS, main
from tests.support.points import document, points
from trimtab.plan import FitVerdict

ASKED = [
    "dense_mean_frac",
    "dense_median_frac",
    "dense_group_mean_frac",
    "dense_raw_mean_frac",
    "moe_mean_frac",
    "moe_unknown_recompute_mean_frac",
    "dense_unknown_recompute_mean_frac",
    "tpu_mean_frac",
    "tpu_raw_mean_frac",
    "mixed_raw_mean_frac",
    "one_row_mean_frac",
    "interval80_cover_frac",
    "interval80_median_half_width_frac",
    "interval_score_over_constant_width_ratio",
    "memory_megatron_mean_frac",
    "memory_megatron_worst_frac",
    "memory_all_mean_frac",
    "memory_tight_frac",
    "false_does_not_fit_count",
    "false_fits_count",
    "spearman_mean",
    "regret_best_of_three_frac",
    "regret_first_frac",
    "rows_count",
    "rows_refused_count",
]


def scale(prediction: RowPrediction, rows: Sequence[CalibrationRow]) -> RowPrediction:
    factor = multiplier(rows)
    return replace(
        prediction, step_s=prediction.step_s * factor, low_s=prediction.low_s * factor, high_s=prediction.high_s * factor
    )


def by_batch(rows: Sequence[RowInput]) -> list[RowPrediction]:
    """A world in which a sequence takes 10 ms and 1 GiB, and a batch of 1000 is illegal."""
    out = []
    for row in rows:
        if row.global_batch == 1000:
            out.append(refuse("batch", "1000 is not allowed"))
            continue
        step_s = 0.01 * (row.global_batch or 1)
        verdict = FitVerdict.FITS if (row.micro_batch or 1) < 4 else FitVerdict.TIGHT
        out.append(
            RowPrediction(
                step_s=step_s,
                low_s=step_s * 0.9,
                high_s=step_s * 1.1,
                memory_bytes=float((row.micro_batch or 1) << 30),
                verdict=FitVerdict.DOES_NOT_FIT if row.micro_batch == 9 else verdict,
            )
        )
    return out


WORLD = Predictor(predict_rows=by_batch, calibrated=scale)


def test_every_figure_that_is_asked_for_is_there() -> None:
    figures = evaluate(points({"step_time_s": 1.0}), WORLD).figures
    assert set(ASKED) <= set(figures)
    assert set(GOALS) <= set(figures)


def test_figures_of_a_small_world() -> None:
    dense = [{"global_batch": 10 * index, "step_time_s": 0.2 * index} for index in range(1, 17)]
    sweep = [{**fields, "sweep_group": "g"} for fields in dense]
    experts = [{**fields, "model": "experts", "source": "s2", "recompute": "unknown"} for fields in dense[:3]]
    chips = [{"hardware": "chip", "global_batch": 100, "step_time_s": 1.25}]
    mixed = [{"pool": {"a": 4, "b": 4}, "global_batch": 100, "step_time_s": 4.0}]
    suspect = [{"global_batch": 100, "step_time_s": 99.0, "suspect": True}]
    illegal = [{"global_batch": 1000, "step_time_s": 99.0}]
    found = evaluate(points(*sweep, *experts, *chips, *mixed, *suspect, *illegal), WORLD)
    figures = found.figures
    assert figures["dense_mean_frac"] == pytest.approx(0.0), "the multiplier of the group is exact"
    assert figures["dense_rows_count"] == 16
    assert figures["dense_raw_mean_frac"] == pytest.approx((16 * 0.5 + 0.2) / 17), "chips count as dense too"
    assert figures["dense_raw_group_mean_frac"] == pytest.approx((0.5 + 0.2) / 2)
    assert figures["tpu_raw_mean_frac"] == pytest.approx(0.2)
    assert figures["tpu_mean_frac"] is None
    assert figures["moe_unknown_recompute_raw_mean_frac"] == pytest.approx(0.5)
    assert figures["moe_unknown_recompute_mean_frac"] is None
    assert found.summaries["moe_unknown_recompute"]["one_row"] is not None
    assert figures["mixed_raw_mean_frac"] == pytest.approx(0.75)
    assert figures["spearman_mean"] == pytest.approx(1.0)
    assert figures["regret_first_frac"] == pytest.approx(0.0)
    assert figures["rows_refused_count"] == 1
    assert found.refused == {"batch: 1000 is not allowed": 1}
    assert found.left_out == {"suspect": 1}
    assert figures["rows_count"] == 22


def test_memory_and_verdicts() -> None:
    memory_points = [
        {"id": "a", "micro_batch": 2, "outcome": "OOM"},
        {"id": "b", "micro_batch": 5, "outcome": "OOM"},
        {"id": "c", "micro_batch": 2, "peak_memory_gb": 2.0},
    ]
    own = {"model": "small", "hardware": "card", "devices": 8, "seq_len": 2048, "source": "s1"}
    found = evaluate(
        points(
            {"step_time_s": 1.0, "micro_batch": 1, "memory_gib": 1.0},
            {"step_time_s": 1.0, "micro_batch": 9, "memory_gib": 10.0},
            {"step_time_s": 1.0, "micro_batch": 4, "memory_gib": 4.0, "framework": "other"},
            memory_points=[{**own, **fields} for fields in memory_points],
        ),
        WORLD,
    ).figures
    assert found["memory_megatron_mean_frac"] == pytest.approx(0.05)
    assert found["memory_megatron_worst_frac"] == pytest.approx(0.1)
    assert found["memory_all_mean_frac"] == pytest.approx(0.1 / 4)
    assert found["memory_tight_frac"] == pytest.approx(1 / 4)
    assert found["false_does_not_fit_count"] == 1
    assert found["false_fits_count"] == 1


def test_intervals_are_compared_with_the_best_constant_width() -> None:
    """Intervals just as wide as the best constant ones score the same."""
    rows = [{"global_batch": 100, "step_time_s": 1.0 + 0.1 * index, "source": "s1"} for index in (0, 1, 1, -1, -1)]
    figures = evaluate(points(*rows), WORLD).figures
    assert figures["interval80_cover_frac"] == 1.0
    assert figures["interval80_median_half_width_frac"] == pytest.approx(0.1)
    assert figures["interval_score_over_constant_width_ratio"] == pytest.approx(1.0)


def _renamed(published: dict[str, Any]) -> dict[str, Any]:
    """The file with every id, source, note, date and model name replaced by random text."""
    draw = random.Random(3)

    def word() -> str:
        return f"{draw.getrandbits(64):016x}"

    out = copy.deepcopy(published)
    models = {name: word() for name in out["models"]}
    sources = {name: word() for name in out["sources"]}
    out["models"] = {models[name]: {**entry, "source": word(), "note": word()} for name, entry in out["models"].items()}
    out["sources"] = {sources[name]: f"{word()} {word()}" for name in out["sources"]}
    for each in (*out["points"], *out["memory_points"]):
        each.update(id=word(), notes=word(), date=word(), model=models[each["model"]], source=sources[each["source"]])
    return out


def test_predictions_do_not_change_when_everything_is_renamed() -> None:
    published = yaml.load(TRAINING_POINTS.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    renamed = _renamed(published)
    assert not {row["id"] for row in renamed["points"]} & {row["id"] for row in published["points"]}

    def predictions(file: dict[str, Any]) -> list[RowPrediction]:
        found = points_of(file, [])
        rows: list[Row] = [*found.rows, *found.memory_rows]
        return _row_predictor.predict_rows([row.input for row in rows])

    before = predictions(published)
    assert len(before) == 791
    assert predictions(renamed) == before


def test_a_prediction_depends_on_its_own_row_alone() -> None:
    """Neither on which rows stand beside it nor on their order."""
    inputs = [row.input for row in read_points(TRAINING_POINTS).rows]
    whole = _row_predictor.predict_rows(inputs)
    order = random.Random(5).sample(range(len(inputs)), len(inputs) // 3)
    assert _row_predictor.predict_rows([inputs[index] for index in order]) == [whole[index] for index in order]


def test_calibration_on_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored, other = tmp_path / "scored.yaml", tmp_path / "other.yaml"
    scored.write_text(yaml.safe_dump(document({"step_time_s": 3.0}, {"step_time_s": 3.0, "source": "s2"})))
    other.write_text(yaml.safe_dump(document(*[{"step_time_s": 3.0}] * 3)))
    assert main(["--points", str(scored), "--calibrate-on", str(other)]) == 0
    printed = capsys.readouterr().out
    shown = {line.split()[0]: line.split()[1] for line in printed.splitlines() if line.startswith("dense_")}
    assert shown["dense_rows_count"] == "1", "the other group has no rows in the file that calibrates"
    assert float(shown["dense_mean_frac"]) == pytest.approx(0.0, abs=1e-6)
    assert shown["dense_raw_rows_count"] == "2"


def test_a_broken_file_ends_with_status_2_and_its_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump(document({"devices": 0})))
    assert main(["--points", str(file)]) == 2
    assert "points[0].devices: row 'row-0': found 0" in capsys.readouterr().err
