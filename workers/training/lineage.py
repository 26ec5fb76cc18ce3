"""The loss curve of a run over all its attempts.

Each attempt writes ``losses.jsonl`` in its own folder (step, loss as exact text, fingerprint of the samples) and, before its
first step, one line of ``lineage.jsonl`` in the checkpoint folder that says where it took over. Joining them gives the curve as
if nothing had happened.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from workers.training.reports import read_lines

LOSSES = "losses.jsonl"
LINEAGE = "lineage.jsonl"
NO_LOSSES = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPoint:
    """One step: its loss as ``repr`` wrote it, a fingerprint of its samples and the attempt that is valid for it."""

    step: int
    loss: str
    samples: str
    attempt: int


def chain(digest: str, step: int, loss: float) -> str:
    """The loss digest after one more step; equal digests mean bit-equal losses from the first step on."""
    return hashlib.sha256(f"{digest} {step} {loss!r}".encode()).hexdigest()


def joined_losses(checkpoint_dir: Path) -> list[LossPoint]:
    """The valid curve: each attempt replaces what its predecessors did from its first step on."""
    curve: list[LossPoint] = []
    for line in read_lines(checkpoint_dir / LINEAGE):
        curve = [point for point in curve if point.step <= line["resumed_step"]]
        folder = Path(line["attempt_dir"])
        for record in read_lines(folder / LOSSES):
            curve.append(
                LossPoint(
                    step=int(record["step"]),
                    loss=str(record["loss"]),
                    samples=str(record["samples"]),
                    attempt=int(line["attempt"]),
                )
            )
    return curve


def digest_of(curve: list[LossPoint]) -> str:
    """The loss digest of a joined curve. Raises ValueError where steps are missing or doubled."""
    digest = NO_LOSSES
    for index, point in enumerate(curve):
        if point.step != index + 1:
            raise ValueError(f"step {index + 1} is missing: found step {point.step}")
        digest = chain(digest, point.step, float(point.loss))
    return digest
