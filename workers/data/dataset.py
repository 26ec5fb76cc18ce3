"""What the training loop sees of a data set: sample id -> arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.data.order import IntArray

IGNORED = -100
"""Target that no loss is taken of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Some samples: ``tokens`` and ``targets`` [N, sequence_length], ``source`` [N, source_length] or None, all int64."""

    tokens: IntArray
    targets: IntArray
    source: IntArray | None = None

    def padded(self, count: int) -> Samples:
        """The same samples followed by copies of the first whose targets are all ignored, ``count`` in all."""
        extra = count - len(self.tokens)
        if extra <= 0:
            return self
        targets = np.full((extra, self.targets.shape[1]), IGNORED, dtype=np.int64)
        return Samples(
            tokens=np.concatenate([self.tokens, np.repeat(self.tokens[:1], extra, axis=0)]),
            targets=np.concatenate([self.targets, targets]),
            source=None if self.source is None else np.concatenate([self.source, np.repeat(self.source[:1], extra, axis=0)]),
        )

    def rows(self, rows: IntArray) -> Samples:
        """Some of the samples."""
        source = None if self.source is None else self.source[rows]
        return Samples(tokens=self.tokens[rows], targets=self.targets[rows], source=source)


class DataSet(Protocol):
    """A map-style data set: reading a sample changes nothing, and every rank reads the same under the same id."""

    @property
    def digest(self) -> str:
        """Fingerprint of all samples; ranks and attempts with another one hold other data."""

    @property
    def num_train(self) -> int:
        """Training samples per epoch."""

    @property
    def num_held_out(self) -> int:
        """Samples that are never trained on."""

    @property
    def facts(self) -> Mapping[str, int | str]:
        """What was read, kept and dropped, for the log."""

    def train(self, ids: IntArray) -> Samples:
        """Training samples."""

    def held_out(self, ids: IntArray) -> Samples:
        """Held-out samples."""


class PackedStream:
    """Windows of ``length`` targets over a stream of tokens: each target of the stream in exactly one window.

    Window ``i`` reads tokens ``[i*length, (i+1)*length)`` and predicts the token after each. With ``whole`` only full windows
    count (training); otherwise the last is filled with ignored targets (evaluation).
    """

    def __init__(self, stream: NDArray[np.unsignedinteger], length: int, *, whole: bool) -> None:
        self._stream = stream
        self._length = length
        num_targets = max(0, len(stream) - 1)
        self.num_samples = num_targets // length if whole else -(-num_targets // length)

    def __getitem__(self, ids: IntArray) -> Samples:
        last = len(self._stream) - 1
        positions = ids[:, None] * self._length + np.arange(self._length)
        tokens = self._stream[np.minimum(positions, last)].astype(np.int64)
        targets = self._stream[np.minimum(positions + 1, last)].astype(np.int64)
        targets[positions + 1 > last] = IGNORED
        tokens[positions > last] = 0
        return Samples(tokens=tokens, targets=targets)
