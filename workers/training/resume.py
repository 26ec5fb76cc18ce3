"""Finds the checkpoint that a run goes on from: the one that it was told, or the newest older one that verifies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trimtab import wire
from trimtab.errors import CheckpointError
from workers.training.agreement import Peers
from workers.training.checkpoint_manifest import Manifest, list_checkpoints, read_manifest, verify

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A verified checkpoint; ``rejected`` names those that were passed over and why."""

    path: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a checkpoint must agree with to be of this run."""

    data_digest: str
    spec_digest: str


def choose(resume_from: Path, checkpoint_dir: Path, expected: Expected, *, log: Log) -> tuple[Path, Manifest]:
    """Rank 0's choice. Raises CheckpointError where nothing usable is left, with the reason of each that was tried."""
    asked_step = _step_of(resume_from, log)
    candidates = [resume_from]
    for found in list_checkpoints(checkpoint_dir):
        if found.path.resolve() != resume_from.resolve() and (asked_step is None or found.step <= asked_step):
            candidates.append(found.path)
    reasons = []
    for folder in candidates:
        try:
            manifest = verify(folder)
        except CheckpointError as error:
            reasons.append(str(error))
            log(f"checkpoint refused: {error}")
            continue
        _check_same_run(folder, manifest, expected)
        if folder != resume_from:
            log(f"stepping back to the verified checkpoint of step {manifest.run.step}: {folder}")
        return folder, manifest
    raise CheckpointError(f"no usable checkpoint in {checkpoint_dir}: {'; '.join(reasons)}")


def choose_together(
    resume_from: str, checkpoint_dir: Path, expected: Expected, *, peers: Peers, log: Log
) -> tuple[Path, Manifest]:
    """Rank 0 reads and verifies, all ranks learn its choice. Raises CheckpointError at every rank where there is none."""
    choice = Choice()
    if peers.first:
        try:
            folder, _ = choose(Path(resume_from), checkpoint_dir, expected, log=log)
            choice = Choice(path=str(folder))
        except CheckpointError as error:
            choice = Choice(error=str(error))
    choice = wire.loads(Choice, peers.broadcast_text(wire.dumps(choice)))
    if choice.error:
        raise CheckpointError(choice.error)
    return Path(choice.path), read_manifest(Path(choice.path))


def _step_of(folder: Path, log: Log) -> int | None:
    """The step of the checkpoint that was asked for: from its manifest, or from its name where that is damaged."""
    try:
        return read_manifest(folder).run.step
    except CheckpointError:
        name, _, number = folder.name.rpartition("-")
        if name == "step" and number.isdigit():
            return int(number)
        log(f"{folder} has neither a readable manifest nor a step in its name; the newest verified checkpoint is taken")
        return None


def _check_same_run(folder: Path, manifest: Manifest, expected: Expected) -> None:
    """Raises CheckpointError for a sound checkpoint of something else: stepping back would not help."""
    if manifest.run.spec_digest != expected.spec_digest:
        raise CheckpointError(f"{folder} was written for another model or training workload than this job's")
    if manifest.run.data_digest != expected.data_digest:
        raise CheckpointError(f"{folder} was written over other training data than this machine has now")
