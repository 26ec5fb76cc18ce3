"""A file of measured steps as runs that can be predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from trimtab.errors import SpecError
from trimtab.jobspec import JobKind, JobSpec
from trimtab.prices import newest_day
from trimtab.spec.fields import INVALID, Marks, Reading
from trimtab.spec.measured_schema import MEASURED_FILE
from trimtab.spec.model_source import read_model
from trimtab.strategy import Precision, Strategy
from trimtab.workload import DataKind, DataSpec, TrainWorkload

_WITH_MODEL = ("sequence_length", "source_length")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSteps:
    """One entry: what ran, on what, and the seconds of its steps without the warm-up (``steps_s``, at least one).

    ``num_steps`` is how many steps these figures stand for. ``where`` is the entry's path in its file.
    """

    source: str
    where: str
    spec: JobSpec
    strategy: Strategy
    device: str
    framework: str
    num_nodes: int
    devices_per_node: int
    steps_s: tuple[float, ...]
    num_steps: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFile:
    """Where a file of measured steps stands, how its entries are marked, and what is asked of all of them."""

    path: Path
    marks: Marks
    drop_first: int
    now: datetime

    def wrong(self, problems: Mapping[str, SpecError]) -> SpecError:
        """Problems of entries, found later, by the entry's path: with the lines of the file."""
        reading = Reading(self.marks)
        for where, error in problems.items():
            for problem in error.problems:
                path = f"{where}.{problem.path}" if problem.path else where
                reading.problem(path, problem.message, allowed=problem.allowed, nearest=problem.nearest)
        return SpecError(reading.problems, source=str(self.path))


def parse_measured(tree: object, file: MeasuredFile, *, jobs: Mapping[str, JobSpec]) -> tuple[MeasuredSteps, ...]:
    """The runs of a file; ``jobs`` holds the job files that it names and that are there, by the path as written.

    Raises SpecError with every problem found, each with its line.
    """
    reading = Reading(file.marks)
    values = MEASURED_FILE.read(reading, "", tree)
    found: list[MeasuredSteps] = []
    if values is not INVALID and values["measurements"] is not INVALID and not reading.problems:
        for index, part in enumerate(values["measurements"]):
            made = _Entry(reading, file, f"measurements[{index}]", part=part).steps(jobs, index)
            if made is None:
                continue
            if any(made.source == other.source for other in found):
                reading.problem(f"{made.where}.run", f"'{made.source}' is there twice", allowed="a name for each run")
            found.append(made)
        if not values["measurements"]:
            reading.problem("measurements", "found none", allowed="at least one run")
    if reading.problems:
        raise SpecError(reading.problems, source=str(file.path))
    return tuple(found)


class _Entry:
    """Makes one run, noting what does not go together."""

    def __init__(self, reading: Reading, file: MeasuredFile, where: str, *, part: Mapping[str, Any]) -> None:
        self._reading = reading
        self._file = file
        self._where = where
        self._part = part

    def steps(self, jobs: Mapping[str, JobSpec], index: int) -> MeasuredSteps | None:
        part, before = self._part, len(self._reading.problems)
        job = self._job(jobs)
        strategy = self._strategy(job)
        spec = self._with_model(strategy) if job is None and strategy is not None else job
        steps_s = self._steps_s()
        at = self._at()
        if len(self._reading.problems) > before or spec is None or strategy is None:
            return None
        num_nodes = part.get("nodes", 1)
        return MeasuredSteps(
            source=part.get("run", f"{self._file.path.name}#{index + 1}"),
            where=self._where,
            spec=spec,
            strategy=strategy,
            device=part["device"],
            framework=part.get("framework", "trimtab"),
            num_nodes=num_nodes,
            devices_per_node=part.get("devices_per_node", max(1, strategy.world_size // num_nodes)),
            steps_s=steps_s,
            num_steps=part.get("num_steps", 1) if "step_s" in part else len(steps_s),
            at=at,
        )

    def _wrong(self, key: str, message: str, allowed: str) -> None:
        self._reading.problem(f"{self._where}.{key}" if key else self._where, message, allowed=allowed)

    def _job(self, jobs: Mapping[str, JobSpec]) -> JobSpec | None:
        part = self._part
        if ("job" in part) == ("model" in part):
            found = "both job and model" if "job" in part else "neither job nor model"
            self._wrong("", f"found {found}", "the path of a job file, or a model with sequence_length")
            return None
        if "model" in part:
            if "sequence_length" not in part:
                self._wrong("sequence_length", "missing", "tokens of a sample, beside model")
            return None
        for key in _WITH_MODEL:
            if key in part:
                self._wrong(key, "stands beside job", "the job file says it")
        if part["job"] not in jobs:
            self._wrong("job", f"{part['job']} is not there", "the path of a job file, seen from this file")
            return None
        spec = jobs[part["job"]]
        if spec.kind is not JobKind.TRAIN or spec.train is None:
            self._wrong("job", f"{spec.name} is of kind {spec.kind}", "a job of kind train")
            return None
        train = replace(spec.train, precision=part.get("precision", spec.train.precision))
        return replace(spec, train=train)

    def _strategy(self, job: JobSpec | None) -> Strategy | None:
        given = dict(self._part["strategy"])
        if given.get("fsdp", 1) > 1:
            given.setdefault("zero_stage", 3)
        train = job.train if job is not None else None
        if train is not None:
            ranks = given.get("dp", 1) * given.get("fsdp", 1)
            given.setdefault("num_micro_batches", max(1, train.global_batch // (given["micro_batch"] * ranks)))
        precision = train.precision if train is not None else self._part.get("precision", Precision.BF16)
        try:
            return Strategy(precision=precision, **given)
        except ValueError as error:
            self._wrong("strategy", str(error), "degrees that go together")
            return None

    def _with_model(self, strategy: Strategy) -> JobSpec | None:
        reading = Reading(_below(self._file.marks, self._where))
        name = f"run-{self._where}"
        model = read_model(reading, self._part.get("model", {}), base_dir=self._file.path.resolve().parent, default_name=name)
        for problem in reading.problems:
            self._reading.problems.append(replace(problem, path=f"{self._where}.{problem.path}"))
        if model is None or "sequence_length" not in self._part:
            return None
        train = TrainWorkload(
            num_steps=1,
            sequence_length=self._part["sequence_length"],
            source_length=self._part.get("source_length", 0),
            global_batch=strategy.global_batch,
            data=DataSpec(kind=DataKind.TEXT),
            precision=strategy.precision,
        )
        return JobSpec(name=model.name, kind=JobKind.TRAIN, model=model, train=train)

    def _steps_s(self) -> tuple[float, ...]:
        part = self._part
        if ("step_s" in part) == ("steps_s" in part):
            found = "both step_s and steps_s" if "step_s" in part else "neither step_s nor steps_s"
            self._wrong("", f"found {found}", "seconds of a typical step, or of each of 1 to 50")
            return ()
        if "step_s" in part:
            if "drop_first" in part:
                self._wrong("drop_first", "stands beside step_s", "steps_s, whose first ones are dropped")
            return (part["step_s"],)
        if "num_steps" in part:
            self._wrong("num_steps", "stands beside steps_s", "steps_s, which are counted")
        steps_s: tuple[float, ...] = part["steps_s"]
        dropped = part.get("drop_first", self._file.drop_first)
        if dropped >= len(steps_s):
            self._wrong(
                "steps_s", f"found {len(steps_s)} steps, of which the first {dropped} are dropped", "more steps than that"
            )
        return steps_s[dropped:]

    def _at(self) -> datetime:
        day = self._part.get("date")
        if day is None:
            return self._file.now
        newest = newest_day(self._file.now).isoformat()
        if day > newest:
            self._wrong("date", f"{day} is yet to come", f"at most {newest}")
        return datetime.combine(datetime.fromisoformat(day).date(), time(), tzinfo=UTC)


def job_paths(tree: object) -> tuple[str, ...]:
    """The job files that a tree names, each once, as written; what is no text is left to ``parse_measured``."""
    entries = tree.get("measurements") if isinstance(tree, Mapping) else None
    named = [entry.get("job") for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    return tuple(dict.fromkeys(name for name in named if isinstance(name, str) and name.strip()))


def _below(marks: Marks, where: str) -> Marks:
    """The marks of one entry, its path taken off."""

    def cut(places: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        inside = {path.removeprefix(f"{where}."): place for path, place in places.items() if path.startswith(f"{where}.")}
        return inside | ({"": places[where]} if where in places else {})

    return Marks(keys=cut(marks.keys), values=cut(marks.values))
