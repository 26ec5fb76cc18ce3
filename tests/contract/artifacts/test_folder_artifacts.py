"""What the artifact store promises: folders of one job apart, checkpoints verified to the last byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduler.adapters.local.artifacts import FolderArtifacts
from scheduler.config import Home
from trimtab.ids import AttemptRef, JobId, UnitId
from trimtab.orders import CheckpointNote

JOB = JobId("job_x")


@pytest.fixture
def store(tmp_path: Path) -> FolderArtifacts:
    return FolderArtifacts(Home(path=tmp_path))


@pytest.fixture
def folder(store: FolderArtifacts) -> Path:
    """A checkpoint of two files, as docs/checkpoints.md describes it."""
    path = Path(store.checkpoint_dir(JOB)) / "a1" / "step-5"
    path.mkdir(parents=True)
    for name in ("rank-0.safetensors", "rank-1.safetensors"):
        (path / name).write_bytes(name.encode() * 1000)
    write_manifest(path)
    return path


def entries(folder: Path) -> list[dict[str, Any]]:
    return [
        {"name": path.name, "num_bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(folder.glob("*.safetensors"))
    ]


def write_manifest(folder: Path, **changes: Any) -> None:
    document = {"format": 1, "attempt": "job_x.u0.a1", "files": entries(folder), "tensors": [], "run": {}} | changes
    (folder / "manifest.json").write_text(json.dumps(document))


def note(folder: Path) -> CheckpointNote:
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    return CheckpointNote(path=str(folder), step=5, manifest_sha256=digest, num_bytes=1, save_s=0.1)


def test_folders_are_made_for_this_user_alone_and_are_the_same_each_time(store: FolderArtifacts, tmp_path: Path) -> None:
    first, second = AttemptRef(unit_id=UnitId("job_x.u0"), number=7), AttemptRef(unit_id=UnitId("job_x.u2"), number=7)
    assert store.attempt_dir(first) == str(tmp_path / "jobs" / "job_x" / "a7") == store.attempt_dir(first)
    assert store.attempt_dir(second) == str(tmp_path / "jobs" / "job_x" / "u2-a7")
    assert store.checkpoint_dir(JOB) == str(tmp_path / "jobs" / "job_x" / "checkpoints") == store.checkpoint_dir(JOB)
    assert Path(store.checkpoint_dir(JOB)).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["../x", "/etc", "", ".", "a/b", "x" * 200])
def test_an_id_that_leads_elsewhere_is_refused(store: FolderArtifacts, name: str) -> None:
    with pytest.raises(ValueError, match="no plain name"):
        store.checkpoint_dir(JobId(name))


def test_a_whole_checkpoint_verifies(store: FolderArtifacts, folder: Path) -> None:
    assert store.verify(note(folder))


def flip(folder: Path) -> None:
    path = folder / "rank-1.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def swap_names(folder: Path) -> None:
    first, second = folder / "rank-0.safetensors", folder / "rank-1.safetensors"
    held = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(held)


def replace_by_link(folder: Path) -> None:
    path = folder / "rank-0.safetensors"
    path.rename(folder.parent / "moved")
    path.symlink_to(folder.parent / "moved")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "one bit": flip,
    "cut short": lambda folder: (folder / "rank-0.safetensors").write_bytes(b"rank"),
    "a byte more": lambda folder: (folder / "rank-0.safetensors").open("ab").write(b"x"),
    "a file gone": lambda folder: (folder / "rank-0.safetensors").unlink(),
    "two files swapped": swap_names,
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "another manifest": lambda folder: (folder / "manifest.json").open("a").write("\n"),
    "no folder": lambda folder: folder.rename(folder.with_name("elsewhere")),
    "a link": replace_by_link,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_any_damage_after_the_announcement_is_found(store: FolderArtifacts, folder: Path, damage: str) -> None:
    announced = note(folder)
    assert store.verify(announced)
    DAMAGE[damage](folder)
    assert not store.verify(announced)


@pytest.mark.parametrize(
    "manifest",
    [
        {"files": []},
        {"files": "all"},
        {"files": [{"name": "rank-0.safetensors"}]},
        {"format": 2},
        {"files": [{"name": "../../secret", "num_bytes": 1, "sha256": "0"}]},
        {"files": [{"name": "/etc/hostname", "num_bytes": 1, "sha256": "0"}]},
    ],
)
def test_a_manifest_that_proves_nothing_is_not_believed(store: FolderArtifacts, folder: Path, manifest: dict[str, Any]) -> None:
    write_manifest(folder, **manifest)
    assert not store.verify(note(folder))


def test_a_checkpoint_outside_the_jobs_is_not_believed(store: FolderArtifacts, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "rank-0.safetensors").write_bytes(b"x")
    write_manifest(outside)
    assert not store.verify(note(outside))
    link = folder.parent / "step-6"
    link.symlink_to(outside)
    assert not store.verify(note(link))
