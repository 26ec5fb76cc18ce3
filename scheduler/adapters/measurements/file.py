"""Measured runs as one JSON file of the state folder. A lock file orders the command line and the control process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trimtab import wire
from trimtab.errors import Problem, SpecError, StoreError
from trimtab.files import try_lock, write_atomically
from trimtab.measurement import WIRE_VERSION, KeptMeasurements, StepMeasurement

_LOCK_PATIENCE_S = 5.0
_LOCK_PAUSE_S = 0.01
_REMEDY = "put the entry right, or take it out of the file"


class MeasurementFile:
    """MeasurementShelf in a file that is read again when it changes. A file that cannot be read is an error, never left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._kept = KeptMeasurements()

    def kept(self) -> KeptMeasurements:
        """See the port."""
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                self._kept = read_kept(self._path.read_bytes(), source=str(self._path))
                self._stamp = stamp
        except FileNotFoundError:
            self._stamp, self._kept = None, KeptMeasurements()
        except OSError as error:
            raise StoreError(f"the measured runs of {self._path} cannot be read: {error.strerror}") from error
        return self._kept

    def put(self, measurement: StepMeasurement, *, again: bool = False) -> bool:
        """See the port."""
        before, after = self._change(lambda kept: kept.with_added(measurement, again=again))
        return after != before

    def forget(self, name: str) -> frozenset[str]:
        """See the port."""
        before, _ = self._change(lambda kept: kept.without(kept.named(name)))
        return before.named(name)

    def _change(self, change: Callable[[KeptMeasurements], KeptMeasurements]) -> tuple[KeptMeasurements, KeptMeasurements]:
        try:
            with self._locked():
                before = self.kept()
                after = change(before)
                if after != before:
                    write_atomically(self._path, written(after).encode())
                return before, after
        except OSError as error:
            raise StoreError(f"the measured runs cannot be kept in {self._path}: {error.strerror}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._path.with_name(f".{self._path.name}.lock")
        until_s = time.monotonic() + _LOCK_PATIENCE_S
        while (handle := try_lock(lock)) is None:
            if time.monotonic() > until_s:
                raise StoreError(f"another process has been writing {self._path} for {_LOCK_PATIENCE_S:.0f} s")
            time.sleep(_LOCK_PAUSE_S)
        try:
            yield
        finally:
            os.close(handle)


def written(kept: KeptMeasurements) -> str:
    """The file's text: one run a line, so that a person can find and compare them."""
    runs = ",\n".join(f"  {wire.dumps(entry)}" for entry in kept.measurements)
    forgotten = json.dumps(list(kept.forgotten))
    return f'{{"version": {kept.version}, "forgotten": {forgotten}, "measurements": [\n{runs}\n]}}\n'


def read_kept(data: bytes, *, source: str) -> KeptMeasurements:
    """Inverse of ``written``. Raises SpecError with every entry that cannot be read."""
    try:
        tree = json.loads(data)
    except json.JSONDecodeError as error:
        problem = Problem(path="", message=f"not JSON: {error.msg}", line=error.lineno, column=error.colno)
        raise SpecError([problem], source=source) from error
    except UnicodeDecodeError as error:
        raise SpecError([Problem(path="", message=f"not UTF-8 text: {error.reason}")], source=source) from error
    _check_frame(tree, source)
    runs: list[StepMeasurement] = []
    problems: list[Problem] = []
    for index, entry in enumerate(tree["measurements"]):
        where = f"measurements[{index}]"
        try:
            run = wire.decode(StepMeasurement, entry, where)
        except wire.WireError as error:
            named = f" (source {entry['source']!r})" if isinstance(entry, dict) and "source" in entry else ""
            path, _, said = str(error).partition(": ")
            problems.append(Problem(path=path, message=f"{said}{named}", allowed=_REMEDY))
            continue
        if any(run.source == other.source for other in runs):
            problems.append(Problem(path=f"{where}.source", message=f"{run.source!r} is there twice", allowed=_REMEDY))
        runs.append(run)
    if problems:
        raise SpecError(problems, source=source)
    return KeptMeasurements(measurements=tuple(runs), forgotten=tuple(tree["forgotten"]))


def _check_frame(tree: Any, source: str) -> None:
    if not isinstance(tree, Mapping):
        raise SpecError([Problem(path="", message=f"found {type(tree).__name__}", allowed="an object")], source=source)
    version = tree.get("version")
    if version != WIRE_VERSION:
        problem = Problem(path="version", message=f"found {version!r}", allowed=f"{WIRE_VERSION}, which this Trimtab writes")
        raise SpecError([problem], source=source)
    forgotten = tree.get("forgotten")
    if not isinstance(forgotten, list) or not all(isinstance(entry, str) for entry in forgotten):
        raise SpecError([Problem(path="forgotten", message="found no list of texts", allowed="a list of sources")], source=source)
    if not isinstance(tree.get("measurements"), list):
        raise SpecError([Problem(path="measurements", message="found no list", allowed="a list of runs")], source=source)
