"""Saving, verifying, stepping back and pruning, on a real file system with real damage."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")

from tests.support.training_runs import ROOT  # noqa: E402
from trimtab.errors import CheckpointError  # noqa: E402
from trimtab.ids import AttemptRef, UnitId  # noqa: E402
from trimtab.strategy import Strategy  # noqa: E402
from workers.training.agreement import Peers  # noqa: E402
from workers.training.checkpoint import CheckpointStore  # noqa: E402
from workers.training.checkpoint_manifest import (  # noqa: E402
    MANIFEST,
    RunState,
    list_checkpoints,
    manifest_sha256,
    read_manifest,
    verify,
)
from workers.training.resume import Expected, choose  # noqa: E402
from workers.training.shards import Part, ShardReader  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.runtime

EXPECTED = Expected(data_digest="data", spec_digest="spec")


def _state(step: int, *, spec: str = "spec", data: str = "data") -> RunState:
    return RunState(
        step=step,
        position=step * 4,
        epoch=0,
        loss=1.0 / step,
        loss_digest="x",
        data_digest=data,
        spec_digest=spec,
        strategy=Strategy(),
        world_size=1,
    )


def _parts(step: int) -> list[Part]:
    generator = torch.Generator().manual_seed(step)
    return [Part.whole("model/w", torch.randn(50, 20, generator=generator)), Part.whole("loop/seen", torch.tensor([step]))]


def _store(folder: Path, *, number: int = 1, keep: int = 2, log: list[str] | None = None) -> CheckpointStore:
    lines = log if log is not None else []
    attempt = AttemptRef(unit_id=UnitId("job_x.u0"), number=number)
    return CheckpointStore(checkpoint_dir=folder, attempt=attempt, peers=Peers(rank=0, world_size=1), keep=keep, log=lines.append)


def _steps(folder: Path) -> list[int]:
    return [found.step for found in list_checkpoints(folder)]


@contextmanager
def _full_disk(num_bytes: int) -> Iterator[None]:
    """The kernel refuses every file of more than ``num_bytes``, with the same kind of error as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_saved_checkpoint_verifies_and_reads_back(tmp_path: Path) -> None:
    result = _store(tmp_path).save(_state(3), _parts(3))
    assert result.note is not None
    folder = tmp_path / "a1" / "step-3"
    assert (result.note.path, result.note.step) == (str(folder), 3)
    assert result.note.manifest_sha256 == manifest_sha256(folder)
    manifest = verify(folder)
    assert manifest.run == _state(3)
    assert manifest.num_bytes == result.note.num_bytes
    assert torch.equal(ShardReader(folder, manifest).whole("model/w"), _parts(3)[0].local)
    assert sorted(path.name for path in (tmp_path / "a1").iterdir()) == ["step-3"]


def test_later_changes_of_the_state_do_not_reach_the_checkpoint(tmp_path: Path) -> None:
    parts = _parts(3)
    _store(tmp_path).save(_state(3), parts)
    parts[0].local.zero_()
    folder = tmp_path / "a1" / "step-3"
    assert torch.equal(ShardReader(folder, verify(folder)).whole("model/w"), _parts(3)[0].local)


def test_older_ones_go_only_after_a_newer_one_is_accepted(tmp_path: Path) -> None:
    store = _store(tmp_path, keep=2)
    for step in (1, 2, 3, 4):
        store.save(_state(step), _parts(step))
    assert _steps(tmp_path) == [4, 3, 2, 1]
    store.published(3, accepted=False)
    assert _steps(tmp_path) == [4, 3, 2, 1]
    store.published(3, accepted=True)
    assert _steps(tmp_path) == [4, 3, 2]
    store.published(4, accepted=True)
    assert _steps(tmp_path) == [4, 3]


def test_pruning_spans_attempts_and_takes_what_crashes_left(tmp_path: Path) -> None:
    for number, steps in ((1, (1, 2, 9)), (2, (3, 4))):
        for step in steps:
            _store(tmp_path, number=number).save(_state(step), _parts(step))
    left_over = tmp_path / "a1" / ".step-5.partial"
    left_over.mkdir()
    _store(tmp_path, number=2, keep=2).published(4, accepted=True)
    # Step 9 of the first attempt is newer than what was accepted and stays.
    assert _steps(tmp_path) == [9, 4, 3]
    assert not left_over.exists()


def test_the_same_step_twice_replaces(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.save(_state(1), _parts(1))
    assert store.save(_state(1), _parts(2)).note is not None
    folder = tmp_path / "a1" / "step-1"
    assert torch.equal(ShardReader(folder, verify(folder)).whole("model/w"), _parts(2)[0].local)


def test_full_disk_keeps_the_last_good_one_and_saving_goes_on_later(tmp_path: Path) -> None:
    store = _store(tmp_path)
    assert store.save(_state(1), _parts(1)).note is not None
    with _full_disk(2000):
        result = store.save(_state(2), _parts(2))
    assert result.note is None
    assert "File too large" in result.error
    assert [path.name for path in (tmp_path / "a1").iterdir()] == ["step-1"]
    verify(tmp_path / "a1" / "step-1")
    assert store.save(_state(3), _parts(3)).note is not None


def test_full_disk_at_the_manifest(tmp_path: Path) -> None:
    parts = [Part.whole("w", torch.zeros(1))]
    with _full_disk(200):
        result = _store(tmp_path).save(_state(1), parts)
    assert result.note is None
    assert _steps(tmp_path) == []


def test_folder_that_cannot_be_made_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a1").write_text("in the way", encoding="utf-8")
    result = _store(tmp_path).save(_state(1), _parts(1))
    assert result.note is None
    assert "Not a directory" in result.error or "File exists" in result.error


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _lose(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_flip, _truncate, _lose])
@pytest.mark.parametrize("name", ["rank-0.safetensors", MANIFEST])
def test_damaged_checkpoint_is_refused_and_the_older_one_taken(tmp_path: Path, damage: Callable[[Path], None], name: str) -> None:
    store = _store(tmp_path)
    for step in (2, 4, 6):
        store.save(_state(step), _parts(step))
    newest = tmp_path / "a1" / "step-6"
    damage(newest / name)
    with pytest.raises(CheckpointError):
        verify(newest)
    log: list[str] = []
    folder, manifest = choose(newest, tmp_path, EXPECTED, log=log.append)
    assert (folder, manifest.run.step) == (tmp_path / "a1" / "step-4", 4)
    assert log[0].startswith("checkpoint refused: ")
    assert "stepping back to the verified checkpoint of step 4" in log[-1]


def test_every_single_bit_of_the_header_and_every_byte_counts(tmp_path: Path) -> None:
    _store(tmp_path).save(_state(1), [Part.whole("w", torch.arange(4.0))])
    folder = tmp_path / "a1" / "step-1"
    path = folder / "rank-0.safetensors"
    sound = path.read_bytes()
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ (1 << place % 8)]) + sound[place + 1 :])
        with pytest.raises(CheckpointError, match="SHA-256"):
            verify(folder)
    path.write_bytes(sound)
    verify(folder)


def test_stepping_back_never_steps_forward(tmp_path: Path) -> None:
    store = _store(tmp_path)
    for step in (2, 4, 6):
        store.save(_state(step), _parts(step))
    _flip(tmp_path / "a1" / "step-4" / "rank-0.safetensors")
    folder, _ = choose(tmp_path / "a1" / "step-4", tmp_path, EXPECTED, log=[].append)
    assert folder.name == "step-2"


def test_nothing_usable_names_every_reason(tmp_path: Path) -> None:
    store = _store(tmp_path)
    for step in (2, 4):
        store.save(_state(step), _parts(step))
        _flip(tmp_path / "a1" / f"step-{step}" / "rank-0.safetensors")
    with pytest.raises(CheckpointError, match=r"no usable checkpoint.*step-4.*step-2"):
        choose(tmp_path / "a1" / "step-4", tmp_path, EXPECTED, log=[].append)


@pytest.mark.parametrize(("other", "word"), [({"spec": "o"}, "another model"), ({"data": "o"}, "other training data")])
def test_checkpoint_of_another_run_is_refused(tmp_path: Path, other: dict[str, str], word: str) -> None:
    _store(tmp_path).save(_state(2, **other), _parts(2))
    with pytest.raises(CheckpointError, match=word):
        choose(tmp_path / "a1" / "step-2", tmp_path, EXPECTED, log=[].append)


def test_other_format_is_refused_by_name(tmp_path: Path) -> None:
    _store(tmp_path).save(_state(2), _parts(2))
    path = tmp_path / "a1" / "step-2" / MANIFEST
    path.write_text(path.read_text(encoding="utf-8").replace('"format": 1', '"format": 9'), encoding="utf-8")
    with pytest.raises(CheckpointError, match="format 9; this version reads 1"):
        read_manifest(path.parent)


_SAVER = """
import sys, torch
from pathlib import Path
from trimtab.ids import AttemptRef, UnitId
from trimtab.strategy import Strategy
from workers.training.agreement import Peers
from workers.training.checkpoint import CheckpointStore
from workers.training.checkpoint_manifest import RunState
from workers.training.shards import Part

store = CheckpointStore(checkpoint_dir=Path(sys.argv[1]), attempt=AttemptRef(unit_id=UnitId("job_x.u0"), number=int(sys.argv[2])),
                        peers=Peers(rank=0, world_size=1), keep=2, log=print)
step = int(sys.argv[2]) * 100000
while True:
    step += 1
    state = RunState(step=step, position=step, epoch=0, loss=1.0, loss_digest="", data_digest="data", spec_digest="spec",
                     strategy=Strategy(), world_size=1)
    assert store.save(state, [Part.whole("w", torch.full((300, 300), float(step)))]).note
    print(step, flush=True)
    store.published(step, accepted=True)
"""


def test_kill_at_any_moment_leaves_a_verified_checkpoint(tmp_path: Path) -> None:
    generator = random.Random(7)
    for number in range(1, 5):
        command = [sys.executable, "-c", _SAVER, str(tmp_path), str(number)]
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        saver = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
        assert saver.stdout is not None
        confirmed = int(saver.stdout.readline())
        time.sleep(generator.random() * 0.3)
        saver.send_signal(signal.SIGKILL)
        lines = saver.stdout.read().split()
        saver.wait(timeout=30)
        saver.stdout.close()
        confirmed = max([confirmed, *(int(line) for line in lines if line.isdigit())])
        found = list_checkpoints(tmp_path)
        assert found[0].step >= confirmed
        for each in found:
            step = verify(each.path).run.step
            assert (ShardReader(each.path, read_manifest(each.path)).whole("w") == float(step)).all()
