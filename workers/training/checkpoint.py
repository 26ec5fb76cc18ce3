"""Writes verified checkpoints with all ranks, and prunes the older ones.

Order of a save: every rank writes its shard into a folder with a temporary name, flushes it to the disk and reads it again;
rank 0 writes the manifest, flushes file and folder, renames the folder and flushes its parent. Only then the note is made. A
failure anywhere (a full disk, an error of the disk) leaves the last good checkpoint and the training alone.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trimtab import wire
from trimtab.errors import CheckpointError
from trimtab.ids import AttemptRef
from trimtab.orders import CheckpointNote
from workers.data.cache import fsync_path
from workers.training.agreement import Peers
from workers.training.checkpoint_manifest import (
    FORMAT,
    MANIFEST,
    FileEntry,
    Manifest,
    RunState,
    TensorEntry,
    folder_of,
    list_checkpoints,
    manifest_sha256,
    read_manifest,
    remove,
    verify_file,
)
from workers.training.shards import Part, merge_entries, write_shard

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """What a rank wrote, or why it could not."""

    file: FileEntry | None = None
    tensors: tuple[TensorEntry, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveResult:
    """A note, or the reason why there is no new checkpoint."""

    note: CheckpointNote | None = None
    error: str = ""


class CheckpointStore:
    """The checkpoints of one attempt. All ranks call ``save`` together; rank 0 alone prunes."""

    def __init__(self, *, checkpoint_dir: Path, attempt: AttemptRef, peers: Peers, keep: int, log: Log) -> None:
        self.checkpoint_dir = checkpoint_dir
        self.attempt = attempt
        self.peers = peers
        self.keep = max(1, keep)
        self.last_save_s: float | None = None
        self._log = log

    def save(self, run: RunState, parts: Sequence[Part]) -> SaveResult:
        """Write a checkpoint of ``run`` and the parts of all ranks. Never raises for an error of the disk."""
        started = time.monotonic()
        target = folder_of(self.checkpoint_dir, self.attempt.number, run.step)
        unfinished = target.with_name(f".{target.name}.partial")
        failure = self.peers.broadcast_text(_attempt(partial(_empty_folder, unfinished)) if self.peers.first else "")
        result = SaveResult(error=failure)
        if not failure:
            report = _write_own(unfinished, self.peers.rank, parts)
            texts = self.peers.gather_texts(wire.dumps(report))
            outcome = ""
            if self.peers.first:
                reports = [wire.loads(ShardReport, text) for text in texts]
                outcome = wire.dumps(self._finish(unfinished, target, run, reports, started))
            result = wire.loads(SaveResult, self.peers.broadcast_text(outcome))
        if self.peers.first and result.note is None:
            shutil.rmtree(unfinished, ignore_errors=True)  # frees what a full disk needs most
        if result.note is not None:
            self.last_save_s = time.monotonic() - started
        return result

    def _finish(
        self, unfinished: Path, target: Path, run: RunState, reports: Sequence[ShardReport], started: float
    ) -> SaveResult:
        errors = [f"rank {rank}: {report.error}" for rank, report in enumerate(reports) if report.error]
        if errors:
            return SaveResult(error="; ".join(errors))
        try:
            manifest = Manifest(
                format=FORMAT,
                attempt=str(self.attempt),
                run=run,
                files=tuple(report.file for report in reports if report.file is not None),
                tensors=merge_entries([report.tensors for report in reports]),
            )
            _publish(unfinished, target, manifest)
            found = read_manifest(target)
            if found != manifest:
                raise CheckpointError(f"{target}: the manifest reads back otherwise than it was written")
            note = CheckpointNote(
                path=str(target),
                step=run.step,
                manifest_sha256=manifest_sha256(target),
                num_bytes=manifest.num_bytes,
                save_s=time.monotonic() - started,
            )
        except (OSError, CheckpointError) as error:
            return SaveResult(error=str(error))
        return SaveResult(note=note)

    def published(self, step: int, *, accepted: bool) -> None:
        """The control plane's answer to a note. Older checkpoints go once a newer one is accepted, never before."""
        folder = folder_of(self.checkpoint_dir, self.attempt.number, step)
        if accepted and (folder / MANIFEST).is_file():
            self._prune(folder, step)

    def _prune(self, accepted: Path, step: int) -> None:
        """Keep the accepted checkpoint, all that are newer and the newest older ones; delete the rest and what crashes left."""
        older = [found for found in list_checkpoints(self.checkpoint_dir) if found.step <= step and found.path != accepted]
        for found in older[self.keep - 1 :]:
            failure = _attempt(partial(remove, found.path))
            self._log(f"could not remove {found.path}: {failure}" if failure else f"removed the checkpoint of step {found.step}")
        for left_over in self.checkpoint_dir.glob("a*/.step-*.partial"):
            if left_over.parent.name != f"a{self.attempt.number}":
                shutil.rmtree(left_over, ignore_errors=True)


def _write_own(folder: Path, rank: int, parts: Sequence[Part]) -> ShardReport:
    path = folder / f"rank-{rank}.safetensors"
    try:
        file, tensors = write_shard(path, parts)
        verify_file(folder, file)
    except (OSError, CheckpointError) as error:
        return ShardReport(error=str(error))
    return ShardReport(file=file, tensors=tensors)


def _publish(unfinished: Path, target: Path, manifest: Manifest) -> None:
    path = unfinished / MANIFEST
    with path.open("w", encoding="utf-8") as file:
        json.dump(wire.encode(manifest), file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    fsync_path(unfinished)
    if target.exists():
        remove(target)
    unfinished.rename(target)
    fsync_path(target.parent)


def _empty_folder(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    fsync_path(folder.parent)


def _attempt(act: Callable[[], None]) -> str:
    """Empty, or why the file system refused."""
    try:
        act()
    except OSError as error:
        return str(error)
    return ""
