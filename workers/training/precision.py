"""Number formats of a run: what parameters are kept in, what the arithmetic is done in.

Parameters, gradients and optimizer state are kept in float64 for fp64 and in float32 otherwise. bf16 does the matrix products
and attention in bfloat16 under torch's autocast and keeps float32 parameters, which are the master weights. tf32 is float32 with
the shorter mantissa in matrix products of NVIDIA devices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from trimtab.strategy import Precision

SUPPORTED = (Precision.FP64, Precision.FP32, Precision.TF32, Precision.BF16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """``parameter`` is the dtype of parameters, gradients and optimizer state; ``compute`` that of matrix products."""

    parameter: torch.dtype
    compute: torch.dtype

    @property
    def mixed(self) -> bool:
        """Whether arithmetic is done in another format than parameters are kept in."""
        return self.parameter is not self.compute


def formats(precision: Precision, device: torch.device) -> Formats:
    """The formats of a precision. Raises ValueError for one that this engine or the device does not have."""
    if precision not in SUPPORTED:
        allowed = ", ".join(SUPPORTED)
        raise ValueError(f"precision: the trainer has no {precision}; allowed: {allowed}; nearest: {Precision.BF16}")
    if precision is Precision.TF32 and device.type != "cuda":
        raise ValueError(f"precision: tf32 exists on NVIDIA devices only, not on {device.type}; nearest: {Precision.FP32}")
    if precision is Precision.FP64:
        return Formats(parameter=torch.float64, compute=torch.float64)
    if precision is Precision.BF16:
        return Formats(parameter=torch.float32, compute=torch.bfloat16)
    return Formats(parameter=torch.float32, compute=torch.float32)


@contextlib.contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """The context in which forward passes run."""
    if precision is Precision.BF16:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            yield
    else:
        yield


def allow_tf32(precision: Precision) -> None:
    """Let NVIDIA devices round matrix products to tf32 where that was chosen, and forbid it where it was not."""
    torch.backends.cuda.matmul.allow_tf32 = precision is Precision.TF32
    torch.backends.cudnn.allow_tf32 = precision is Precision.TF32
