"""Checkpoint folders on disk: their manifest, verification, search and pruning. No tensor is touched here.

A checkpoint is the folder ``<checkpoint_dir>/a<attempt>/step-<n>`` with one safetensors file per rank that had something to
write, and ``manifest.json`` with the SHA-256 of each. The folder takes its name by a rename, after everything in it is on the
disk.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trimtab import wire
from trimtab.errors import CheckpointError
from trimtab.strategy import Strategy

MANIFEST = "manifest.json"
FORMAT = 1
_STEP_FOLDER = re.compile(r"step-(\d+)\Z")
_ATTEMPT_FOLDER = re.compile(r"a(\d+)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A box of a tensor in a file: half-open ranges ``starts`` to ``stops`` of the whole."""

    file: str
    starts: tuple[int, ...]
    stops: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One tensor: its safetensors dtype, whole shape, and the pieces that cover it. Its name is its key in each file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file with its size and SHA-256."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Where the run stands, beside its tensors.

    ``position`` counts samples taken in all, ``epoch`` the one that the seen marks belong to; ``loss_digest`` chains the
    losses of all steps so far, ``data_digest`` and ``spec_digest`` name what the run trains on and what it trains.
    """

    step: int
    position: int
    epoch: int
    loss: float
    loss_digest: str
    data_digest: str
    spec_digest: str
    strategy: Strategy
    world_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a checkpoint holds."""

    format: int
    attempt: str
    run: RunState
    files: tuple[FileEntry, ...]
    tensors: tuple[TensorEntry, ...] = field(default_factory=tuple)

    @property
    def num_bytes(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(file.num_bytes for file in self.files)

    def entry(self, name: str) -> TensorEntry:
        """The tensor of that name. Raises CheckpointError where there is none."""
        for entry in self.tensors:
            if entry.name == name:
                return entry
        raise CheckpointError(f"the checkpoint of step {self.run.step} has no tensor {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A folder that looks like a checkpoint."""

    path: Path
    attempt: int
    step: int


def folder_of(checkpoint_dir: Path, attempt: int, step: int) -> Path:
    """Where the checkpoint of a step is kept."""
    return checkpoint_dir / f"a{attempt}" / f"step-{step}"


def read_manifest(folder: Path) -> Manifest:
    """Raises CheckpointError for a missing or unreadable manifest, or one of a format that this version does not know."""
    try:
        text = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{folder}: no readable {MANIFEST} ({error.strerror})") from error
    try:
        manifest = wire.loads(Manifest, text)
    except (wire.WireError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder}: damaged {MANIFEST} ({error})") from error
    if manifest.format != FORMAT:
        raise CheckpointError(f"{folder}: checkpoint format {manifest.format}; this version reads {FORMAT}")
    return manifest


def manifest_sha256(folder: Path) -> str:
    """SHA-256 of the manifest file, which names all others."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def verify(folder: Path) -> Manifest:
    """Read every byte and compare with the manifest. Raises CheckpointError naming the first file that is wrong."""
    manifest = read_manifest(folder)
    for entry in manifest.files:
        verify_file(folder, entry)
    for tensor in manifest.tensors:
        _check_cover(folder, tensor)
    return manifest


def verify_file(folder: Path, entry: FileEntry) -> None:
    """Raises CheckpointError where a file is missing, of another size or of other content."""
    path = folder / entry.name
    try:
        size = path.stat().st_size
        if size != entry.num_bytes:
            raise CheckpointError(f"{path}: {size} bytes instead of {entry.num_bytes}")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if found != entry.sha256:
        raise CheckpointError(f"{path}: SHA-256 {found[:16]}… instead of {entry.sha256[:16]}…")


def list_checkpoints(checkpoint_dir: Path) -> list[Found]:
    """All folders with a manifest, newest step first (of equal steps the later attempt)."""
    found = []
    for attempt_folder in _subfolders(checkpoint_dir):
        attempt = _ATTEMPT_FOLDER.match(attempt_folder.name)
        for folder in _subfolders(attempt_folder) if attempt else ():
            step = _STEP_FOLDER.match(folder.name)
            if attempt and step and (folder / MANIFEST).is_file():
                found.append(Found(path=folder, attempt=int(attempt[1]), step=int(step[1])))
    return sorted(found, key=lambda each: (each.step, each.attempt), reverse=True)


def remove(folder: Path) -> None:
    """Delete a checkpoint. The manifest goes first, so that what a crash leaves behind is no checkpoint."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _subfolders(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (entry for entry in entries if entry.is_dir())


def _check_cover(folder: Path, tensor: TensorEntry) -> None:
    """The pieces of a tensor must add up to the whole (they never overlap: each box has one writer)."""
    total = 1
    for size in tensor.shape:
        total *= size
    covered = 0
    for piece in tensor.pieces:
        part = 1
        for start, stop in zip(piece.starts, piece.stops, strict=True):
            part *= stop - start
        covered += part
    if covered != total:
        raise CheckpointError(f"{folder}: {tensor.name} has {covered} of {total} elements")
