"""A job file as a JobSpec. All problems of a file are reported at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trimtab.errors import SpecError
from trimtab.ids import ProjectId
from trimtab.jobspec import (
    CheckpointPolicy,
    CommandSpec,
    DeviceRequest,
    JobKind,
    JobSpec,
    Limits,
    Optimize,
    RetryPolicy,
    StrategyRequest,
    Trainer,
)
from trimtab.model import ModelFamily, ModelSpec, PositionKind
from trimtab.spec.fields import INVALID, Marks, Reading
from trimtab.spec.model_source import read_model
from trimtab.spec.schema import JOB
from trimtab.strategy import Precision
from trimtab.workload import DataKind, DataSpec, OptimizerKind, OptimizerSpec, TrainWorkload

Values = Mapping[str, Any]
_TRAIN_KEYS = ("model", "data", "workload")
_TRAIN_ONLY = (*_TRAIN_KEYS, "framework", "strategy", "checkpoint")


def parse_job(tree: object, marks: Marks | None = None, *, base_dir: Path, source: str | None = None) -> JobSpec:
    """Check a job file's tree of plain values and build the JobSpec.

    ``base_dir`` is the folder that relative paths start from, ``source`` the name shown in messages. Raises SpecError with every
    problem found, each with line and column where ``marks`` has them.
    """
    reading = Reading(marks or Marks())
    values = JOB.read(reading, "", tree)
    spec = _build(reading, values, base_dir) if values is not INVALID else None
    if reading.problems or spec is None:
        raise SpecError(reading.problems, source=source)
    return spec


def _build(reading: Reading, values: Values, base_dir: Path) -> JobSpec | None:
    kind = values["kind"]
    if kind is INVALID or values["name"] is INVALID:
        return None
    wanted, foreign = (_TRAIN_KEYS, ("command",)) if kind is JobKind.TRAIN else (("command",), _TRAIN_ONLY)
    for key in wanted:
        if key not in values:
            reading.problem(key, f"missing; a job of kind {kind} needs it")
    for key in foreign:
        if key in values:
            reading.problem(key, f"a job of kind {kind} has no {key}", allowed=", ".join(wanted), at_key=True)
    model = train = command = None
    if kind is JobKind.TRAIN:
        model, train = _training(reading, values, base_dir)
    else:
        command = _command(values.get("command"), base_dir)
    common = _common(reading, values)
    if reading.problems:
        return None
    return JobSpec(name=values["name"], kind=kind, model=model, train=train, command=command, **common)


def _training(reading: Reading, values: Values, base_dir: Path) -> tuple[ModelSpec | None, TrainWorkload | None]:
    parts = [values.get(key, INVALID) for key in _TRAIN_KEYS]
    model = read_model(reading, parts[0], base_dir=base_dir, default_name=values["name"]) if parts[0] is not INVALID else None
    data = _data(reading, parts[1], base_dir) if _clean(parts[1]) else None
    train = _workload(reading, parts[2], data) if _clean(parts[2]) and data is not None else None
    if model is None or train is None:
        return model, train
    if values.get("framework", Trainer.TRIMTAB) is Trainer.TRIMTAB and train.data.kind is DataKind.EXTERNAL:
        others = ", ".join(sorted(set(Trainer) - {Trainer.TRIMTAB}))
        reading.problem("data.kind", "the built-in trainer reads no external data", allowed=f"framework: one of {others}")
    model = _fit_positions(reading, model, train)
    return model, train


def _clean(part: Any) -> bool:
    return part is not INVALID and INVALID not in part.values()


def _data(reading: Reading, values: Values, base_dir: Path) -> DataSpec | None:
    kind = values["kind"]
    paths = tuple(str((base_dir / path).resolve()) for path in values.get("paths", ()))
    if (kind is DataKind.TEXT) != bool(paths):
        said = "kind text needs paths" if kind is DataKind.TEXT else f"kind {kind} has no paths"
        reading.problem("data.paths" if paths else "data", said)
        return None
    for index, path in enumerate(paths):
        if not Path(path).exists():
            reading.problem(f"data.paths[{index}]", f"{path} does not exist")
    if "pairs" in values and kind is not DataKind.TRANSLATION:
        reading.problem("data.pairs", f"kind {kind} has no pairs", allowed="kind: translation", at_key=True)
    held_out = values.get("held_out", 0.05)
    if not 0 < held_out < 1:
        reading.problem("data.held_out", f"found {held_out:g}", allowed="more than 0 and less than 1, such as 5%")
    return DataSpec(
        kind=kind,
        paths=paths,
        held_out_frac=held_out,
        max_bytes=values.get("max_size"),
        size=values.get("pairs", 20_000),
        seed=values.get("seed", 0),
    )


def _workload(reading: Reading, values: Values, data: DataSpec) -> TrainWorkload | None:
    given = [name for name in ("steps", "tokens", "samples") if name in values]
    if len(given) != 1:
        found = "none of them" if not given else ", ".join(given)
        reading.problem("workload", f"found {found}", allowed="exactly one of steps, tokens, samples")
        return None
    batch, length, source = values["global_batch"], values["sequence_length"], values.get("source_length", 0)
    per_unit = {"steps": 1, "samples": batch, "tokens": batch * (length + source)}[given[0]]
    optimizer = _optimizer(reading, values.get("optimizer", {}))
    if optimizer is None:
        return None
    return TrainWorkload(
        num_steps=math.ceil(values[given[0]] / per_unit),
        sequence_length=length,
        source_length=source,
        global_batch=batch,
        data=data,
        precision=Precision(values["precision"].value) if "precision" in values else Precision.FP32,
        optimizer=optimizer,
        seed=values.get("seed", 0),
        evaluate_every_steps=values.get("evaluate_every", 0),
    )


_ADAMW_ONLY = ("beta1", "beta2", "epsilon")


def _optimizer(reading: Reading, values: Values) -> OptimizerSpec | None:
    if INVALID in values.values():
        return None
    kind = values.get("name", OptimizerKind.ADAMW)
    foreign = _ADAMW_ONLY if kind is OptimizerKind.SGD else ("momentum",)
    for key in foreign:
        if key in values:
            reading.problem(f"workload.optimizer.{key}", f"{kind} has no {key}", at_key=True)
    renamed = {"name": "kind", "final_learning_rate": "final_learning_rate_frac"}
    return OptimizerSpec(**{renamed.get(key, key): value for key, value in values.items()})


def _fit_positions(reading: Reading, model: ModelSpec, train: TrainWorkload) -> ModelSpec | None:
    seq2seq = model.family is ModelFamily.ENCODER_DECODER
    if seq2seq != (train.source_length > 0):
        said = "an encoder-decoder needs source_length" if seq2seq else "a decoder has no source_length"
        reading.problem("workload.source_length" if train.source_length else "workload", said)
        return None
    if train.data.kind is not DataKind.EXTERNAL and seq2seq != (train.data.kind is DataKind.TRANSLATION):
        fitting = "translation" if seq2seq else "stdlib or text"
        reading.problem("data.kind", f"{train.data.kind} does not fit a model of family {model.family}", allowed=fitting)
        return None
    longest = max(train.sequence_length, train.source_length)
    if model.max_positions == 0:
        return replace(model, max_positions=longest)
    if model.position is PositionKind.LEARNED and longest > model.max_positions:
        reading.problem(
            "workload.sequence_length",
            f"{longest} is longer than the model's {model.max_positions} learned positions",
            allowed=f"at most {model.max_positions}",
            nearest=str(model.max_positions),
        )
        return None
    return model


def _command(values: Any, base_dir: Path) -> CommandSpec | None:
    if values in (None, INVALID) or INVALID in values.values():
        return None
    return CommandSpec(
        argv=values["argv"],
        working_dir=str((base_dir / values.get("working_dir", ".")).resolve()),
        environment=values.get("environment", {}),
        ranks_per_node=values.get("ranks_per_node"),
    )


def _common(reading: Reading, values: Values) -> dict[str, Any]:
    """Fields that every kind of job has, by their JobSpec names; incomplete where problems were noted."""
    out: dict[str, Any] = {}
    optimize = values.get("optimize", Optimize.TIME)
    deadline = values.get("deadline")
    if optimize is Optimize.DEADLINE and deadline is None:
        reading.problem("optimize", "found deadline without a deadline", allowed="deadline: 12h beside it")
    out["optimize"] = optimize
    if deadline not in (None, INVALID):
        out["deadline_hours"] = deadline / 3600
    out["devices"] = _devices(values)
    sections: tuple[tuple[str, type, Mapping[str, str]], ...] = (
        ("strategy", StrategyRequest, {}),
        ("limits", Limits, {"max_cost": "max_cost_usd", "max_hourly": "max_usd_per_hour"}),
        ("checkpoint", CheckpointPolicy, {"every": "every_s"}),
        ("retry", RetryPolicy, {"backoff": "backoff_s", "max_backoff": "max_backoff_s"}),
    )
    for key, cls, renamed in sections:
        part = values.get(key)
        if part is not None and _clean(part):
            out[key] = cls(**{renamed.get(name, name): value for name, value in part.items()})
    for key, name in (("queue", "queue"), ("labels", "labels"), ("grace", "grace_s")):
        if key in values:
            out[name] = values[key]
    if values.get("framework", INVALID) is not INVALID:
        out["framework"] = values["framework"]
    if "project" in values:
        out["project"] = ProjectId(values["project"])
    if "priority" in values and values["priority"] is not INVALID:
        out["priority"] = int(values["priority"])
    return out


def _devices(values: Values) -> DeviceRequest:
    part = values.get("devices", {})
    markets = values.get("market", ())
    if part is INVALID or INVALID in part.values() or markets is INVALID:
        return DeviceRequest()
    low, high = part.get("count", (1, None))
    return DeviceRequest(min_devices=low, max_devices=high, types=part.get("types", ()), markets=markets)
