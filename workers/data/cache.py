"""Prepared data on disk, named by a digest of everything that went into it.

A folder is built under a temporary name, fsynced and renamed, so that it is either whole or not there. Several ranks may ask at
once: one builds while the others wait on a file lock, and where locks do not work (some network file systems) the rename decides.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

_INDEX = "files.json"


def cached_folder(cache_dir: Path, digest: str, build: Callable[[Path], None]) -> Path:
    """The folder of ``digest``, built by ``build(empty folder)`` if it is not there whole. A damaged one is built again."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    target = cache_dir / digest
    if is_whole(target):
        return target
    with _locked(cache_dir / f"{digest}.lock"):
        if is_whole(target):
            return target
        if target.exists():
            shutil.rmtree(target)
        _build(cache_dir, target, build)
    return target


def is_whole(folder: Path) -> bool:
    """Whether every file of a cached folder is there with the content that was written."""
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        return all(file_sha256(folder / name) == digest for name, digest in index.items())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, AttributeError):
        return False


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_path(path: Path) -> None:
    """Flush a file's or a folder's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _build(cache_dir: Path, target: Path, build: Callable[[Path], None]) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name[:16]}-", dir=cache_dir))
    try:
        build(partial)
        index = {path.name: file_sha256(path) for path in sorted(partial.iterdir())}
        (partial / _INDEX).write_text(json.dumps(index, sort_keys=True), encoding="utf-8")
        for path in partial.iterdir():
            fsync_path(path)
        fsync_path(partial)
        try:
            partial.rename(target)
        except OSError:
            if not is_whole(target):  # not another rank's finished folder but a real failure
                raise
        fsync_path(cache_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            # The file system has no locks. Two ranks may then build the same folder; the rename keeps one of the two, both equal.
            yield
            return
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
