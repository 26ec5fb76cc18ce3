"""Boxes of tensors written by the ranks of one strategy and read by those of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from trimtab.errors import CheckpointError  # noqa: E402
from trimtab.strategy import Strategy  # noqa: E402
from workers.training.checkpoint_manifest import FORMAT, Manifest, RunState, TensorEntry  # noqa: E402
from workers.training.shards import Part, ShardReader, merge_entries, write_shard  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.runtime

WHOLE = torch.arange(7 * 10, dtype=torch.float64).reshape(7, 10)


def _run() -> RunState:
    return RunState(
        step=1,
        position=4,
        epoch=0,
        loss=1.0,
        loss_digest="",
        data_digest="d",
        spec_digest="s",
        strategy=Strategy(),
        world_size=1,
    )


def _cut(name: str, whole: torch.Tensor, rows: int, columns: int) -> list[Part]:
    """Boxes of a grid of ranks, the last row and column shorter."""
    parts = []
    for i in range(rows):
        for j in range(columns):
            height, width = -(-whole.shape[0] // rows), -(-whole.shape[1] // columns)
            top, left = min(i * height, whole.shape[0]), min(j * width, whole.shape[1])
            bottom, right = min(top + height, whole.shape[0]), min(left + width, whole.shape[1])
            local = whole[top:bottom, left:right].clone()
            parts.append(Part(name=name, shape=tuple(whole.shape), box=((top, bottom), (left, right)), local=local))
    return parts


def _write(folder: Path, shards: list[list[Part]]) -> ShardReader:
    written = [write_shard(folder / f"rank-{rank}.safetensors", parts) for rank, parts in enumerate(shards)]
    tensors: list[tuple[TensorEntry, ...]] = [entries for _, entries in written]
    manifest = Manifest(
        format=FORMAT,
        attempt="job_x.u0.a1",
        run=_run(),
        files=tuple(file for file, _ in written),
        tensors=merge_entries(tensors),
    )
    return ShardReader(folder, manifest)


@pytest.mark.parametrize("written", [(1, 1), (2, 1), (1, 3), (2, 2), (4, 3), (5, 1)])
@pytest.mark.parametrize("read", [(1, 1), (3, 1), (1, 2), (2, 4)])
def test_any_cut_reads_as_any_other(tmp_path: Path, written: tuple[int, int], read: tuple[int, int]) -> None:
    reader = _write(tmp_path, [[part] for part in _cut("w", WHOLE, *written)])
    for wanted in _cut("w", WHOLE, *read):
        expected = wanted.local.clone()
        wanted.local.fill_(-1)
        reader.fill(wanted)
        assert torch.equal(wanted.local, expected)


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    parts = [
        Part.whole("a", WHOLE[:, 2:5]),  # not contiguous
        Part.whole("b", torch.arange(5, dtype=torch.bfloat16)),
        Part.whole("c", torch.tensor(7, dtype=torch.int64)),
        Part.whole("d", torch.tensor([True, False])),
        Part.whole("e", torch.arange(3, dtype=torch.uint8)),
    ]
    write_shard(tmp_path / "x.safetensors", parts)
    loaded = load_file(str(tmp_path / "x.safetensors"))
    assert set(loaded) == set("abcde")
    for part in parts:
        assert torch.equal(loaded[part.name], part.local)
        assert loaded[part.name].dtype == part.local.dtype


def test_only_the_primary_of_equal_boxes_is_written(tmp_path: Path) -> None:
    first = Part.whole("w", WHOLE)
    second = Part(name="w", shape=first.shape, box=first.box, local=WHOLE.clone(), primary=False)
    reader = _write(tmp_path, [[first], [second]])
    assert reader.whole("w").shape == WHOLE.shape
    assert load_file(str(tmp_path / "rank-1.safetensors")) == {}


def test_scalars_and_empty_parts(tmp_path: Path) -> None:
    empty = Part(name="w", shape=(3, 4), box=((3, 3), (0, 4)), local=torch.empty(0, 4))
    full = Part(name="w", shape=(3, 4), box=((0, 3), (0, 4)), local=torch.ones(3, 4))
    scalar = Part.whole("s", torch.tensor(2.5))
    reader = _write(tmp_path, [[empty], [full, scalar]])
    reader.fill(empty)
    target = Part.whole("s", torch.tensor(0.0))
    reader.fill(target)
    assert target.local.item() == 2.5


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    reader = _write(tmp_path, [_cut("w", WHOLE, 1, 1)])
    with pytest.raises(CheckpointError, match="no tensor v"):
        reader.fill(Part.whole("v", WHOLE))
    with pytest.raises(CheckpointError, match=r"F64 \[7, 10\] in the checkpoint, F64 \[7, 9\]"):
        reader.fill(Part.whole("w", WHOLE[:, :9].clone()))
    with pytest.raises(CheckpointError, match="F32"):
        reader.fill(Part.whole("w", WHOLE.float()))


def test_missing_piece_is_noticed(tmp_path: Path) -> None:
    upper, _ = _cut("w", WHOLE, 2, 1)
    reader = _write(tmp_path, [[upper]])
    with pytest.raises(CheckpointError, match="40 of 70 elements"):
        reader.fill(Part.whole("w", WHOLE.clone()))


def test_ranks_that_disagree_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="ranks disagree on w"):
        _write(tmp_path, [[Part.whole("w", WHOLE)], [Part.whole("w", WHOLE.float())]])
