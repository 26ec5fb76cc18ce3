"""Step time and memory of many strategies of one job on one place: what the search of strategies calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.strategies.table import PRECISIONS, IntArray, StrategyTable
from planner.training.constants import DEVICE_NAMES, FittedConstants
from planner.training.habits import HabitArrays
from planner.training.knobs import Knobs
from planner.training.layers import model_arrays
from planner.training.memory import StepMemory, step_memory
from planner.training.places import Array, PlaceArrays
from planner.training.profiles import Profile, habit_arrays
from planner.training.step import Question, StepTime, longest_stage, step_time
from trimtab.model import ModelSpec
from trimtab.strategy import Precision

_WIDE = (Precision.FP32, Precision.FP64, Precision.TF32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is trained, as far as costs go: lengths in tokens."""

    model: ModelSpec
    sequence_length: int
    source_length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluated:
    """Time and memory of every strategy of a table, and the question that they answer."""

    question: Question
    time: StepTime
    memory: StepMemory


def evaluate(
    job: Job, table: StrategyTable, place: PlaceArrays, *, device_type: str, profile: Profile, constants: FittedConstants
) -> Evaluated:
    """Time and memory of all strategies; ``place`` has M = 1, the strategies may differ in precision."""
    question = question_of(job, table, place, device_type=device_type, profile=profile, constants=constants)
    return Evaluated(question=question, time=step_time(question), memory=step_memory(question))


def question_of(
    job: Job, table: StrategyTable, place: PlaceArrays, *, device_type: str, profile: Profile, constants: FittedConstants
) -> Question:
    """What the cost formulas are asked about a table of strategies."""
    model = model_arrays(job.model)
    total = model.layers.num_layers.sum(axis=0)
    return Question(
        model=model,
        table=table,
        place=place,
        habits=_habits(profile, table.precision),
        knobs=_knobs(constants, profile, device_type, precision=table.precision),
        sequence=np.array([float(job.sequence_length)]),
        source=np.array([float(job.source_length)]),
        stage_layers=longest_stage(np.maximum(1.0, total), table),
    )


def memory_bytes(
    job: Job, table: StrategyTable, place: PlaceArrays, *, device_type: str, profile: Profile, constants: FittedConstants
) -> Array:
    """Peak bytes of the fullest rank of every strategy: the test that a search prunes by before it computes times."""
    return step_memory(question_of(job, table, place, device_type=device_type, profile=profile, constants=constants)).total


def _habits(profile: Profile, precision: IntArray) -> HabitArrays:
    """Habits of one profile, M = 1 where all strategies gather parameters of one width, else M = N."""
    wide = np.isin(precision, [PRECISIONS.index(entry) for entry in _WIDE])
    if not wide.any():
        return habit_arrays([profile], is_half=[True], halves_gradients=[False])
    if wide.all():
        return habit_arrays([profile], is_half=[False], halves_gradients=[False])
    return habit_arrays([profile] * len(wide), is_half=list(~wide), halves_gradients=[False] * len(wide))


def _knobs(constants: FittedConstants, profile: Profile, device_type: str, *, precision: IntArray) -> Knobs:
    """Constants of one framework on one device type, each strategy with those of its precision."""
    used = [int(code) for code in np.unique(precision)]
    held = {code: constants.device(device_type, str(PRECISIONS[code]))[0] for code in used}
    knobs = constants.knobs([profile.name], [(device_type, str(PRECISIONS[used[0]]) if used else "bf16")])
    if len(used) < 2:
        return knobs
    position = np.searchsorted(np.array(used), precision)
    arrays: dict[str, Any] = {name: np.array([held[code][name] for code in used])[position] for name in DEVICE_NAMES}
    kept = {name: getattr(knobs, name) for name in knobs.__dataclass_fields__ if name not in DEVICE_NAMES}
    return Knobs(**kept, **arrays)
