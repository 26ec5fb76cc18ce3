"""What the engine is fed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100
"""Target of a position that is not trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One data rank's share of one step.

    ``tokens`` and ``targets`` int64 [B, S] (a target of -100 counts nothing), ``source`` int64 [B, M] for an encoder-decoder; B
    is ``micro_batch * num_micro_batches``, all micro-batches of the step one after the other.
    """

    tokens: Tensor
    targets: Tensor
    source: Tensor | None = None

    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors."""
        return (self.tokens, self.targets) if self.source is None else (self.tokens, self.targets, self.source)

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        if self.tokens.device == device:
            return self
        source = None if self.source is None else self.source.to(device, non_blocking=True)
        return Batch(
            tokens=self.tokens.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            source=source,
        )

    def split(self, size: int) -> list[Batch]:
        """Micro-batches of ``size`` samples, in order."""
        return [self.rows(start, start + size) for start in range(0, self.tokens.shape[0], size)]

    def rows(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop``, as views."""
        source = None if self.source is None else self.source[start:stop]
        return Batch(tokens=self.tokens[start:stop], targets=self.targets[start:stop], source=source)


def num_targets(batch: Batch) -> Tensor:
    """Targets that count."""
    return (batch.targets != IGNORED).sum()
