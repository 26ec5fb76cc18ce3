"""The product's training cost model on published rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks._point_types import RowInput
from benchmarks._row_mixed import mixed_prediction
from benchmarks._row_options import Option, UnusableRowError, models_of, options_of, places_of, table_of
from benchmarks._row_prediction import CalibrationRow, RowPrediction, multiplier, refuse
from planner.strategies.table import RECOMPUTES
from planner.training.constants import FittedConstants, fitted_constants
from planner.training.memory import step_memory
from planner.training.profiles import habit_arrays
from planner.training.spread import Doubt, interval, log_spread
from planner.training.step import Question, StepTime, longest_stage, step_time
from planner.training.verdict import judge
from trimtab.plan import FitVerdict
from trimtab.strategy import Precision

_TIGHT, _OVER = 1.0, 1e9
"""Beyond what fits, the option that holds the least memory is taken; bytes are more than any step has seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedPrediction(RowPrediction):
    """A prediction that knows why it may be off."""

    doubt: Doubt


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """All options of all rows with their times and memory."""

    options: list[Option]
    times: StepTime
    memory_bytes: np.ndarray[tuple[int], np.dtype[np.float64]]


def predict_rows(rows: Sequence[RowInput]) -> list[RowPrediction]:
    """One prediction per row, in their order; each depends on its own row alone."""
    constants = fitted_constants()
    refused: dict[int, str] = {}
    options: list[Option] = []
    for index, row in enumerate(rows):
        if row.is_mixed:
            continue
        try:
            options += options_of(index, row)
        except UnusableRowError as error:
            refused[index] = str(error)
    judged = judge_options(options, rows, constants) if options else None
    chosen = choices(judged, rows) if judged else {}
    found = []
    for index, row in enumerate(rows):
        if index in refused:
            rule, _, sentence = refused[index].partition(": ")
            found.append(refuse(rule, sentence))
        elif row.is_mixed:
            found.append(_mixed(row, constants))
        else:
            assert judged is not None
            found.append(_prediction(row, judged, chosen[index], constants))
    return found


def calibrated(prediction: RowPrediction, multiplier_rows: Sequence[CalibrationRow]) -> RowPrediction:
    """The prediction times the group's multiplier; its interval is that of a calibrated prediction."""
    assert isinstance(prediction, CalibratedPrediction)
    step_s = prediction.step_s * multiplier(multiplier_rows)
    spread = log_spread(prediction.doubt, fitted_constants().shared, num_measured=len(multiplier_rows))
    low_s, high_s = interval(step_s, spread)
    return replace(prediction, step_s=step_s, low_s=low_s, high_s=high_s)


def question_of(options: Sequence[Option], rows: Sequence[RowInput], constants: FittedConstants) -> Question:
    """What the cost model is asked about some options."""
    table, model = table_of(options), models_of(options, rows)
    total = model.layers.num_layers.sum(axis=0)
    named = np.array([option.stage_layers or 0.0 for option in options])
    return Question(
        model=model,
        table=table,
        place=places_of(options),
        habits=habit_arrays(
            [option.profile for option in options],
            is_half=[option.precision not in (Precision.FP32, Precision.FP64, Precision.TF32) for option in options],
            halves_gradients=[option.halves_gradients for option in options],
        ),
        knobs=constants.knobs(
            [option.profile.name for option in options], [(option.device, str(option.precision)) for option in options]
        ),
        sequence=np.array([float(rows[option.row].seq_len) for option in options]),
        source=np.zeros(len(options)),
        stage_layers=np.where(named > 0, named, longest_stage(total, table)),
    )


def judge_options(options: list[Option], rows: Sequence[RowInput], constants: FittedConstants) -> Judged:
    """Times and memory of all options."""
    question = question_of(options, rows, constants)
    return Judged(options=options, times=step_time(question), memory_bytes=step_memory(question).total)


def choices(judged: Judged, rows: Sequence[RowInput]) -> Mapping[int, int]:
    """For each row the position of the option that a planner would run: the fastest that fits, else the smallest."""
    best: dict[int, tuple[float, int]] = {}
    for position, option in enumerate(judged.options):
        capacity = float(option.place.memory_bytes[0])
        guessed = rows[option.row].recompute is None or rows[option.row].micro_batch is None
        peak = float(judged.memory_bytes[position])
        verdict = judge(peak, capacity, profile=option.profile, is_guessed=guessed).fit
        penalty = {FitVerdict.TIGHT: _TIGHT, FitVerdict.DOES_NOT_FIT: _OVER}.get(verdict, 0.0) if verdict else 0.0
        score = float(judged.times.step_s[position]) * (1.0 if not penalty else 0.0) + penalty * peak
        if option.row not in best or score < best[option.row][0]:
            best[option.row] = (score, position)
    return {row: position for row, (_, position) in best.items() if row < len(rows)}


def _prediction(row: RowInput, judged: Judged, position: int, constants: FittedConstants) -> RowPrediction:
    option = judged.options[position]
    step_s = float(judged.times.step_s[position])
    compute_s = float(judged.times.compute_s[position])
    doubt = Doubt(
        has_experts=row.has_experts,
        is_guessed=row.recompute is None or row.micro_batch is None,
        waiting_frac=max(0.0, 1.0 - compute_s / step_s),
    )
    low_s, high_s = interval(step_s, log_spread(doubt, constants.shared, num_measured=0))
    memory = float(judged.memory_bytes[position])
    verdict = judge(memory, float(option.place.memory_bytes[0]), profile=option.profile, is_guessed=doubt.is_guessed)
    return CalibratedPrediction(
        step_s=step_s,
        low_s=low_s,
        high_s=high_s,
        memory_bytes=memory,
        memory_low_bytes=verdict.low_bytes,
        memory_high_bytes=verdict.high_bytes,
        verdict=verdict.fit,
        recompute=str(RECOMPUTES[option.values[13]]),
        doubt=doubt,
    )


def _mixed(row: RowInput, constants: FittedConstants) -> RowPrediction:
    try:
        found = mixed_prediction(row, constants)
    except UnusableRowError as error:
        rule, _, sentence = str(error).partition(": ")
        return refuse(rule, sentence)
    doubt = Doubt(has_experts=row.has_experts, is_guessed=True, waiting_frac=1.0)
    low_s, high_s = interval(found.step_s, log_spread(doubt, constants.shared, num_measured=0))
    return CalibratedPrediction(
        step_s=found.step_s, low_s=low_s, high_s=high_s, memory_bytes=found.memory_bytes, doubt=doubt, recompute="none"
    )
