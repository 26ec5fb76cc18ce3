"""Which samples a step trains on, and the proof that each is seen exactly once per epoch.

The order is a pure function of (seed, epoch): step ``s`` takes the positions ``[s*G, (s+1)*G)`` of the endless sequence of
epochs, each a seeded permutation of all samples. Data rank ``r`` of ``n`` takes the ``r``-th contiguous share, so that every
strategy trains on the same global batch.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


class SampleOrderError(AssertionError):
    """A sample would be seen twice, or was left out, in an epoch: the run must not go on."""


class SampleOrder:
    """Maps positions of the endless sequence to sample ids."""

    def __init__(self, num_samples: int, seed: int) -> None:
        if num_samples < 1:
            raise ValueError("a data set needs at least one sample")
        self.num_samples = num_samples
        self.seed = seed
        self._epoch = -1
        self._permutation: IntArray = np.empty(0, dtype=np.int64)

    def permutation(self, epoch: int) -> IntArray:
        """Sample ids of an epoch in order. Raw generator bits are sorted, whose stream NumPy guarantees over versions."""
        if epoch != self._epoch:
            bits = np.random.PCG64([self.seed, epoch]).random_raw(self.num_samples)
            self._permutation = np.argsort(bits, kind="stable").astype(np.int64)
            self._epoch = epoch
        return self._permutation

    def pieces(self, position: int, count: int) -> list[tuple[int, IntArray]]:
        """(epoch, sample ids) of ``count`` positions from ``position``, cut at the ends of epochs."""
        out = []
        while count > 0:
            epoch, offset = divmod(position, self.num_samples)
            ids = self.permutation(epoch)[offset : offset + count]
            out.append((epoch, ids))
            position += len(ids)
            count -= len(ids)
        return out

    def ids(self, position: int, count: int) -> IntArray:
        """Sample ids of ``count`` positions from ``position``."""
        return np.concatenate([ids for _, ids in self.pieces(position, count)])


def share(ids: IntArray, data_rank: int, num_data_ranks: int) -> IntArray:
    """The contiguous part of a global batch that a data rank takes. The batch must divide evenly."""
    each, rest = divmod(len(ids), num_data_ranks)
    if rest:
        raise ValueError(f"a global batch of {len(ids)} samples does not divide over {num_data_ranks} data ranks")
    return ids[data_rank * each : (data_rank + 1) * each]


class SeenGuard:
    """Remembers which samples of the current epoch were trained on; a second time, or a gap at the end of an epoch, raises."""

    def __init__(self, num_samples: int) -> None:
        self.epoch = 0
        self._seen = np.zeros(num_samples, dtype=np.bool_)

    @property
    def num_seen(self) -> int:
        """Samples of the current epoch that were trained on."""
        return int(self._seen.sum())

    def take(self, pieces: list[tuple[int, IntArray]]) -> None:
        """Mark what ``SampleOrder.pieces`` gave. Raises SampleOrderError before anything of a bad piece is marked."""
        for epoch, ids in pieces:
            if epoch == self.epoch + 1:
                self._finish_epoch()
            if epoch != self.epoch:
                raise SampleOrderError(f"samples of epoch {epoch} arrive in epoch {self.epoch}")
            again = ids[self._seen[ids]]
            if len(again) or len(np.unique(ids)) != len(ids):
                raise SampleOrderError(f"sample {int(again[0]) if len(again) else 'of one batch'} is seen twice in epoch {epoch}")
            self._seen[ids] = True

    def state(self) -> NDArray[np.uint8]:
        """The marks as packed bits."""
        return np.packbits(self._seen)

    def restore(self, epoch: int, bits: NDArray[np.uint8], *, position: int) -> None:
        """Take over a saved state; ``position`` (samples trained on in all) must agree with it."""
        size = len(self._seen)
        seen = np.unpackbits(bits, count=size).astype(np.bool_)
        if epoch * size + int(seen.sum()) != position:
            raise SampleOrderError(
                f"{int(seen.sum())} samples are marked in epoch {epoch}, position {position} of {size} says otherwise"
            )
        self.epoch = epoch
        self._seen = seen

    def _finish_epoch(self) -> None:
        if not self._seen.all():
            missing = int(np.flatnonzero(~self._seen)[0])
            raise SampleOrderError(f"sample {missing} was not seen in epoch {self.epoch}")
        self.epoch += 1
        self._seen[:] = False


def digest_of_ids(ids: IntArray) -> str:
    """Short fingerprint of the samples of a step, for logs that are compared."""
    return hashlib.blake2b(np.ascontiguousarray(ids, dtype="<i8").tobytes(), digest_size=8).hexdigest()
