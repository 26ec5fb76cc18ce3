"""ArtifactStore in folders: checkpoints with a manifest of SHA-256 digests."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scheduler.adapters.local.folders import JobFolders
from scheduler.config import Home
from trimtab import wire
from trimtab.errors import CheckpointError
from trimtab.ids import AttemptRef, JobId
from trimtab.orders import CheckpointNote

MANIFEST = "manifest.json"
_FORMAT = 1  # as docs/checkpoints.md defines it
_MAX_MANIFEST_BYTES = 16 << 20
_LOG = logging.getLogger("trimtab.artifacts")


class FolderArtifacts:
    """See the port."""

    def __init__(self, home: Home) -> None:
        self._folders = JobFolders(home.jobs)

    def checkpoint_dir(self, job_id: JobId) -> str:
        """See the port."""
        return _made(self._folders.checkpoints(job_id))

    def attempt_dir(self, attempt: AttemptRef) -> str:
        """See the port."""
        return _made(self._folders.attempt(attempt))

    def verify(self, note: CheckpointNote) -> bool:
        """See the port. What is wrong is written to the log."""
        try:
            self._verify(note)
        except (CheckpointError, OSError) as error:
            _LOG.warning("checkpoint %s of step %d does not verify: %s", note.path, note.step, error)
            return False
        return True

    def _verify(self, note: CheckpointNote) -> None:
        folder = Path(note.path)
        root = self._folders.root.resolve()
        if not folder.resolve().is_relative_to(root):
            raise CheckpointError(f"it lies outside {root}")
        manifest = folder / MANIFEST
        if manifest.stat().st_size > _MAX_MANIFEST_BYTES:
            raise CheckpointError(f"its manifest is larger than {_MAX_MANIFEST_BYTES} bytes")
        text = manifest.read_bytes()
        if hashlib.sha256(text).hexdigest() != note.manifest_sha256:
            raise CheckpointError("its manifest is not the one that was announced")
        for entry in _files(text):
            _verify_file(folder, entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """One file as the manifest lists it; the manifest says more, which concerns the training worker alone."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    format: int
    files: tuple[_Listed, ...]


def _files(text: bytes) -> tuple[_Listed, ...]:
    try:
        listing = wire.loads(_Listing, text)
    except (wire.WireError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"its manifest cannot be read: {error}") from error
    if listing.format != _FORMAT:
        raise CheckpointError(f"its manifest has format {listing.format}; this version knows {_FORMAT}")
    if not listing.files:
        raise CheckpointError("its manifest names no file")
    return listing.files


def _verify_file(folder: Path, entry: _Listed) -> None:
    relative = PurePosixPath(entry.name)
    if relative.is_absolute() or ".." in relative.parts:
        raise CheckpointError(f"its manifest names {entry.name!r}, outside its folder")
    path = folder / relative
    if path.is_symlink() or not path.is_file():
        raise CheckpointError(f"{entry.name} is missing or no plain file")
    size = path.stat().st_size
    if size != entry.num_bytes:
        raise CheckpointError(f"{entry.name} has {size} bytes, not {entry.num_bytes}")
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
            raise CheckpointError(f"{entry.name} has another content than it was written with")


def _made(path: Path) -> str:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(path)
