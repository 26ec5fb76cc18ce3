"""Fit the constants of the training cost model to a file of published steps, and write ``planner/training/constants.json``.

Usage: ``python tools/fit_training_constants.py [--points FILE] [--folds K]``. ``--folds`` writes nothing: it fits on all but one
part of the models at a time and prints the errors on the part that was left out.

What is minimised: robust squares of log(predicted / measured), inside each group of (publisher, hardware, framework) after its
own mean, with less weight the group's mean itself, and inside each sweep its contrasts; and of the distance of each constant
from where it starts, on the scale of its physical bounds, which no constant leaves. Rows whose recompute or micro-batch is not
known are predicted as the planner would run them, chosen anew in each round, and count less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._point_types import Row
from benchmarks._points import TRAINING_POINTS, read_points
from benchmarks._row_mixed import mixed_prediction
from benchmarks._row_options import Option, UnusableRowError, options_of
from benchmarks._row_predictor import choices, judge_options, question_of
from planner.training.constants import FILE, FittedConstants, Quantity, fitted_constants
from planner.training.step import step_time
from tools.training_quantities import DEVICE, FAMILIES, FRAMEWORK, MEMORY, SHARED, SPREAD, Fitted
from tools.training_spreads import fitted_spreads

Vector = NDArray[np.float64]
GUESSED_WEIGHT, LEVEL_WEIGHT, CONTRAST_WEIGHT, PRIOR_WEIGHT = 0.35, 0.35, 0.4, 0.08
ROUNDS, STEPS = 3, 12
INNER_SCALE, LEVEL_SCALE = 0.12, 0.3
FULL_GROUP, LEAST_IN_SWEEP = 60, 6


MIXED = "host_exchange_share"
"""Fitted apart, to jobs on several device types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One number that is fitted: where it is kept, its name, and its bounds."""

    holder: str
    name: str
    fitted: Fitted


def main() -> int:
    """Fit, and write or cross-validate; returns the exit status for the shell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--points", type=Path, default=TRAINING_POINTS)
    parser.add_argument("--folds", type=int, default=0, help="cross-validate instead of writing")
    arguments = parser.parse_args()
    rows = usable(read_points(arguments.points).rows)
    if arguments.folds:
        for line in cross_validated(rows, arguments.folds):
            print(line)
        return 0
    everything = read_points(arguments.points).rows
    found = fit(rows, start(rows))
    write(with_mixed(found, everything), arguments.points)
    fitted_constants.cache_clear()
    scored = [row for row in everything if row.truth.step_s is not None and row in rows]
    write(replace(found, shared={**fitted_constants().shared, **fitted_spreads(scored, found.shared)}), arguments.points)
    return 0


def usable(rows: Sequence[Row]) -> list[Row]:
    """Rows with a step time, of one device type, that the model can be asked about."""
    kept = []
    for row in rows:
        measured = row.truth.step_s or row.truth.step_from_flops_s
        if measured is None or row.truth.suspect or row.input.is_mixed or row.input.global_batch is None:
            continue
        try:
            options_of(0, row.input)
        except UnusableRowError:
            continue
        kept.append(replace(row, truth=replace(row.truth, step_s=measured)))
    return kept


def start(rows: Sequence[Row]) -> FittedConstants:
    """All constants where a fit starts, for the frameworks and devices of the rows."""
    options = [options_of(0, row.input)[0] for row in rows]
    families = {FAMILIES.get(option.device, option.device) for option in options}
    devices: dict[str, dict[str, float]] = {"any": {name: entry.start for name, entry in DEVICE.items()}}
    for family in sorted(families):
        devices[f"{family}.bf16"] = {name: entry.start for name, entry in DEVICE.items()}
    for option in options:
        family, precision = FAMILIES.get(option.device, option.device), str(option.precision)
        if precision not in ("bf16", "fp16", "fp32", "tf32"):
            devices.setdefault(f"{family}.{precision}", {"matmul_share": DEVICE["matmul_share"].start})
    names = sorted({option.profile.name for option in options} | {"trimtab", "generic", "megatron-2021"})
    quantities = {
        name: Quantity(meaning=entry.meaning, unit=entry.unit, low=entry.low, high=entry.high)
        for table in (SHARED, MEMORY, SPREAD, FRAMEWORK, DEVICE)
        for name, entry in table.items()
    }
    shared = {name: entry.start for table in (SHARED, MEMORY, SPREAD) for name, entry in table.items()}
    frameworks = {name: {key: entry.start for key, entry in FRAMEWORK.items()} for name in names}
    for name in names:
        if name.startswith("maxtext"):
            frameworks[name]["host_s"] = FRAMEWORK["host_s"].low
    return FittedConstants(
        quantities=quantities,
        shared=shared,
        frameworks=frameworks,
        devices=devices,
        families=dict(FAMILIES),
        source="start of a fit",
    )


def knobs_of(constants: FittedConstants) -> list[Knob]:
    """What is fitted: all but memory, spreads, ``any`` device and the host time of compiled programs."""
    found = [Knob(holder="global", name=name, fitted=entry) for name, entry in SHARED.items() if name != MIXED]
    for framework in constants.frameworks:
        for name, entry in FRAMEWORK.items():
            if name != "host_s" or not framework.startswith("maxtext"):
                found.append(Knob(holder=f"framework {framework}", name=name, fitted=entry))
    for device, held in constants.devices.items():
        if device != "any":
            found += [Knob(holder=f"device {device}", name=name, fitted=DEVICE[name]) for name in held]
    return found


def values_of(constants: FittedConstants, knobs: Sequence[Knob]) -> Vector:
    """Logarithms of the fitted values."""
    return np.log([_holder(constants, knob.holder)[knob.name] for knob in knobs])


def with_values(constants: FittedConstants, knobs: Sequence[Knob], values: Vector) -> FittedConstants:
    """The constants with fitted values put in."""
    shared = dict(constants.shared)
    frameworks = {name: dict(held) for name, held in constants.frameworks.items()}
    devices = {name: dict(held) for name, held in constants.devices.items()}
    for knob, value in zip(knobs, np.exp(values), strict=True):
        kind, _, name = knob.holder.partition(" ")
        holder = shared if kind == "global" else frameworks[name] if kind == "framework" else devices[name]
        holder[knob.name] = float(np.clip(value, knob.fitted.low, knob.fitted.high))
    return replace(constants, shared=shared, frameworks=frameworks, devices=devices)


def _holder(constants: FittedConstants, name: str) -> Mapping[str, float]:
    kind, _, key = name.partition(" ")
    return constants.shared if kind == "global" else constants.frameworks[key] if kind == "framework" else constants.devices[key]


class Problem:
    """One option for each row, and the residuals of a vector of values."""

    def __init__(self, rows: Sequence[Row], options: Sequence[Option], constants: FittedConstants) -> None:
        self.knobs = knobs_of(constants)
        self._constants = constants
        self._options = list(options)
        self._question = question_of(self._options, [row.input for row in rows], constants)
        self._measured = np.log([row.truth.step_s or 1.0 for row in rows])
        self._groups = _means([str(row.truth.group) for row in rows])
        self._sweeps = _means([row.truth.sweep_group or "" for row in rows], least=LEAST_IN_SWEEP)
        sizes = (self._groups > 0).sum(axis=1)
        guessed = np.array([row.input.recompute is None for row in rows])
        members = sizes @ (self._groups > 0)
        self._weight = np.where(guessed, GUESSED_WEIGHT, 1.0) * np.minimum(1.0, np.sqrt(FULL_GROUP / members))
        self._level = LEVEL_WEIGHT * np.sqrt(np.minimum(sizes, 20))
        self.start = np.log([knob.fitted.start for knob in self.knobs])
        self.low = np.log([knob.fitted.low for knob in self.knobs])
        self.high = np.log([knob.fitted.high for knob in self.knobs])
        self.prior = PRIOR_WEIGHT / np.maximum((self.high - self.low) / 4.0, 0.05)

    def errors(self, values: Vector) -> Vector:
        """Logarithm of predicted over measured, one per row."""
        made = with_values(self._constants, self.knobs, values)
        places = [(option.device, str(option.precision)) for option in self._options]
        knobs = made.knobs([option.profile.name for option in self._options], places)
        return np.asarray(np.log(step_time(replace(self._question, knobs=knobs)).step_s) - self._measured)

    def residuals(self, values: Vector) -> tuple[Vector, Vector]:
        """Residuals with their robust scales: inside groups, of groups, inside sweeps; the prior is apart."""
        errors = self.errors(values)
        group = self._groups @ errors
        inside = (errors - (self._groups > 0).T @ group) * self._weight
        sweep = self._sweeps @ errors
        member = (self._sweeps > 0).any(axis=0)
        contrast = CONTRAST_WEIGHT * np.where(member, errors - (self._sweeps > 0).T @ sweep, 0.0)
        found = np.concatenate([inside, contrast, self._level * group])
        scales = np.concatenate([np.full(2 * len(errors), INNER_SCALE), np.full(len(group), LEVEL_SCALE)])
        return found, scales

    def cost(self, values: Vector) -> float:
        """What is minimised: pseudo-Huber loss of the residuals, and the prior."""
        found, scales = self.residuals(values)
        loss = 2.0 * scales**2 * (np.sqrt(1.0 + (found / scales) ** 2) - 1.0)
        return float(loss.sum() + ((self.prior * (values - self.start)) ** 2).sum())


def solve(problem: Problem, values: Vector) -> Vector:
    """Levenberg-Marquardt with numeric derivatives and reweighting, inside the bounds."""
    damping = 1e-2
    for _ in range(STEPS):
        found, scales = problem.residuals(values)
        slopes = np.empty((len(found), len(values)))
        for index in range(len(values)):
            moved = values.copy()
            moved[index] += 1e-3
            slopes[:, index] = (problem.residuals(moved)[0] - found) / 1e-3
        weights = 1.0 / np.sqrt(1.0 + (found / scales) ** 2)
        matrix = (slopes * weights[:, None]).T @ slopes + np.diag(problem.prior**2)
        vector = (slopes * weights[:, None]).T @ found + problem.prior**2 * (values - problem.start)
        before = problem.cost(values)
        after = before
        for _ in range(8):
            step = -np.linalg.solve(matrix + damping * np.diag(np.diag(matrix)), vector)
            tried = np.clip(values + np.clip(step, -0.7, 0.7), problem.low, problem.high)
            after = problem.cost(tried)
            if after < before:
                values, damping = tried, max(damping / 3.0, 1e-5)
                break
            damping *= 4.0
        if before - after < 1e-5 * before:
            break
    return values


def fit(rows: Sequence[Row], constants: FittedConstants) -> FittedConstants:
    """Choose options and fit, in turns."""
    inputs = [row.input for row in rows]
    everything = [option for index, row in enumerate(rows) for option in options_of(index, row.input)]
    for _ in range(ROUNDS):
        chosen = choices(judge_options(everything, inputs, constants), inputs)
        options = [everything[chosen[index]] for index in range(len(rows))]
        problem = Problem(rows, options, constants)
        values = solve(problem, values_of(constants, problem.knobs))
        constants = with_values(constants, problem.knobs, values)
    return with_any(constants)


def with_any(constants: FittedConstants) -> FittedConstants:
    """The constants of an unknown device: medians over all families."""
    families = [held for name, held in constants.devices.items() if name.endswith(".bf16")]
    typical = {name: statistics.median(held[name] for held in families) for name in DEVICE}
    return replace(constants, devices={**constants.devices, "any": typical})


def errors_of(rows: Sequence[Row], constants: FittedConstants) -> Vector:
    """Logarithm of predicted over measured of each row, run as the planner would."""
    inputs = [row.input for row in rows]
    everything = [option for index, row in enumerate(rows) for option in options_of(index, row.input)]
    judged = judge_options(everything, inputs, constants)
    chosen = choices(judged, inputs)
    return np.array([np.log(judged.times.step_s[chosen[i]] / (row.truth.step_s or 1.0)) for i, row in enumerate(rows)])


def with_mixed(constants: FittedConstants, rows: Sequence[Row]) -> FittedConstants:
    """The share of PCIe that cards without peer-to-peer exchange reach, from jobs on several types of them."""
    mixed = [row for row in rows if row.input.is_mixed and row.truth.step_s is not None]
    best = (float("inf"), constants)
    for share in np.arange(0.04, 0.12, 0.002) if mixed else []:
        tried = replace(constants, shared={**constants.shared, "host_exchange_share": float(share)})
        ratios = [mixed_prediction(row.input, tried).step_s / (row.truth.step_s or 1.0) for row in mixed]
        error = statistics.fmean(abs(ratio - 1.0) for ratio in ratios)
        if error < best[0]:
            best = (error, tried)
    return best[1]


def cross_validated(rows: Sequence[Row], folds: int) -> list[str]:
    """Errors of rows whose model (in that group) was not fitted, after each group's own median."""
    keys = sorted({(str(row.truth.group), row.truth.model_name) for row in rows})
    random = np.random.default_rng(1)
    part = {key: int(random.integers(folds)) for key in keys}
    of_row = np.array([part[str(row.truth.group), row.truth.model_name] for row in rows])
    everything = start(rows)
    base = fit(rows, everything)
    errors = np.zeros(len(rows))
    for fold in range(folds):
        inside = [row for row, own in zip(rows, of_row, strict=True) if own != fold]
        found = fit(inside, base)
        errors[of_row == fold] = errors_of(rows, found)[of_row == fold]
    return [_summary("fitted rows", rows, errors_of(rows, base)), _summary("left-out rows", rows, errors)]


def _summary(name: str, rows: Sequence[Row], errors: Vector) -> str:
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(str(row.truth.group), []).append(index)
    found: dict[str, list[float]] = {"dense": [], "experts": [], "guessed": []}
    for members in groups.values():
        level = float(np.median(errors[members]))
        for index in members if len(members) >= LEAST_IN_SWEEP else []:
            kind = "guessed" if rows[index].input.recompute is None else "experts" if rows[index].input.has_experts else "dense"
            found[kind].append(abs(float(np.exp(errors[index] - level)) - 1.0))
    parts = [f"{kind} {statistics.fmean(own):.1%} (n {len(own)})" for kind, own in found.items() if own]
    return f"{name}: mean error after one multiplier per group: " + ", ".join(parts)


def _means(names: Sequence[str], *, least: int = 1) -> Vector:
    """Averaging matrix: one row per name, of those with at least ``least`` members."""
    kept = [name for name in sorted(set(names)) if name and names.count(name) >= least]
    matrix = np.array([[float(own == name) for own in names] for name in kept]).reshape(len(kept), len(names))
    return np.asarray(matrix / np.maximum(1.0, matrix.sum(axis=1, keepdims=True)))


def write(constants: FittedConstants, points: Path) -> None:
    """Write the file of constants, sorted, four significant digits."""

    def rounded(values: Mapping[str, float]) -> dict[str, float]:
        return {name: float(f"{value:.4g}") for name, value in values.items()}

    document = {
        "source": f"fitted to {points.name} by tools/fit_training_constants.py",
        "quantities": {
            name: {"meaning": q.meaning, "unit": q.unit, "low": q.low, "high": q.high} for name, q in constants.quantities.items()
        },
        "global": rounded(constants.shared),
        "frameworks": {name: rounded(held) for name, held in sorted(constants.frameworks.items())},
        "devices": {name: rounded(held) for name, held in sorted(constants.devices.items())},
        "families": dict(sorted(constants.families.items())),
    }
    FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
