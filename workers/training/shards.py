"""Parts of tensors in safetensors files: one rank writes its boxes, any rank of any strategy reads the boxes that it needs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from trimtab.errors import CheckpointError
from workers.training.checkpoint_manifest import FileEntry, Manifest, Piece, TensorEntry
from workers.training.layout import Box

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """This rank's ``local`` part of a tensor of ``shape``; ``primary`` at the one rank that writes this box."""

    name: str
    shape: tuple[int, ...]
    box: Box
    local: Tensor
    primary: bool = True

    @classmethod
    def whole(cls, name: str, tensor: Tensor) -> Part:
        """A tensor that one rank has whole."""
        shape = tuple(tensor.shape)
        return cls(name=name, shape=shape, box=tuple((0, size) for size in shape), local=tensor)


def write_shard(path: Path, parts: Sequence[Part]) -> tuple[FileEntry, tuple[TensorEntry, ...]]:
    """Write the primary parts into a safetensors file, flushed to the disk. Raises OSError where the disk refuses.

    Tensors go to the file one by one, so that no second copy of the state is held in memory.
    """
    mine = [part for part in parts if part.primary and part.local.numel() > 0]
    header, offset = {}, 0
    for part in mine:
        size = part.local.numel() * part.local.element_size()
        header[part.name] = {
            "dtype": _DTYPES[part.local.dtype],
            "shape": list(part.local.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data begin at a multiple of 8 bytes, as the format asks
    sha = hashlib.sha256()
    with path.open("wb") as file:
        for block in (len(text).to_bytes(8, "little"), text):
            sha.update(block)
            file.write(block)
        for part in mine:
            data = _raw(part.local)
            sha.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
        num_bytes = file.tell()
    entries = tuple(
        TensorEntry(
            name=part.name,
            dtype=_DTYPES[part.local.dtype],
            shape=part.shape,
            pieces=(
                Piece(
                    file=path.name,
                    starts=tuple(start for start, _ in part.box),
                    stops=tuple(stop for _, stop in part.box),
                ),
            ),
        )
        for part in mine
    )
    return FileEntry(name=path.name, num_bytes=num_bytes, sha256=sha.hexdigest()), entries


def merge_entries(shards: Sequence[Sequence[TensorEntry]]) -> tuple[TensorEntry, ...]:
    """One entry per tensor from those of all ranks. Raises CheckpointError where ranks disagree on dtype or shape."""
    merged: dict[str, TensorEntry] = {}
    for entry in (entry for shard in shards for entry in shard):
        known = merged.setdefault(entry.name, entry)
        if known is entry:
            continue
        if (known.dtype, known.shape) != (entry.dtype, entry.shape):
            raise CheckpointError(f"ranks disagree on {entry.name}: {known.dtype} {known.shape}, {entry.dtype} {entry.shape}")
        merged[entry.name] = TensorEntry(
            name=known.name, dtype=known.dtype, shape=known.shape, pieces=known.pieces + entry.pieces
        )
    return tuple(merged[name] for name in sorted(merged))


class ShardReader:
    """Reads boxes of tensors from a verified checkpoint; each file is mapped once."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._entries = {entry.name: entry for entry in manifest.tensors}
        self._step = manifest.run.step
        self._files: dict[str, safe_open] = {}

    def names(self) -> frozenset[str]:
        """Names of all tensors."""
        return frozenset(self._entries)

    def whole(self, name: str) -> Tensor:
        """A tensor that was written by one rank."""
        entry = self._entry(name)
        return self._open(entry.pieces[0].file).get_tensor(name)  # type: ignore[no-any-return]

    def fill(self, part: Part) -> None:
        """Copy this part's box into its local tensor. Raises CheckpointError for another shape, dtype or missing elements."""
        if part.local.numel() == 0:
            return
        entry = self._entry(part.name)
        if entry.shape != part.shape or entry.dtype != _DTYPES[part.local.dtype]:
            found = f"{entry.dtype} {list(entry.shape)}"
            raise CheckpointError(
                f"{part.name}: {found} in the checkpoint, {_DTYPES[part.local.dtype]} {list(part.shape)} in the model"
            )
        filled = 0
        with torch.no_grad():
            for piece in entry.pieces:
                filled += self._copy(part, piece)
        if filled != part.local.numel():
            raise CheckpointError(f"{part.name}: {filled} of {part.local.numel()} elements of this rank are in the checkpoint")

    def _copy(self, part: Part, piece: Piece) -> int:
        """Copy where the piece and the part's box meet; the number of elements."""
        source, target = [], []
        for (start, stop), first, last in zip(part.box, piece.starts, piece.stops, strict=True):
            low, high = max(start, first), min(stop, last)
            if low >= high:
                return 0
            source.append(slice(low - first, high - first))
            target.append(slice(low - start, high - start))
        if not target:  # a scalar
            part.local.copy_(self._open(piece.file).get_tensor(part.name))
            return 1
        data = self._open(piece.file).get_slice(part.name)[tuple(source)]
        part.local[tuple(target)].copy_(data)
        return int(data.numel())

    def _entry(self, name: str) -> TensorEntry:
        entry = self._entries.get(name)
        if entry is None:
            raise CheckpointError(f"the checkpoint of step {self._step} has no tensor {name}")
        return entry

    def _open(self, file: str) -> safe_open:
        if file not in self._files:
            self._files[file] = safe_open(str(self._folder / file), framework="pt", device="cpu")
        return self._files[file]


def _raw(tensor: Tensor) -> memoryview:
    """The bytes of a tensor in row-major order; a copy where it is on a device or not contiguous."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
