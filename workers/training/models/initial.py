"""Initial values that depend on the seed and the parameter's name alone, never on how the model is spread over ranks.

Each parameter has its own generator, seeded from SHA-256 of ``seed/name``; values are drawn on the CPU in float64, then cast.
Matrices are normal with standard deviation fan_in**-0.5 (embeddings: H**-0.5, so that tied logits start with variance 1); those
that write into the residual stream are divided by sqrt(2 * layers of the stack), as GPT-2 does. Norm weights are 1, biases 0.
"""

from __future__ import annotations

import hashlib
import math
import re

import torch
from torch import Tensor

from trimtab.model import ModelSpec, StackRole

WRITES_RESIDUAL = re.compile(r"\.(?:attention\.output|cross_attention\.output|feed_forward\.down)\.weight$")
SEED_BITS = 63


class Initialiser:
    """Gives the full initial value of each named parameter of a model."""

    def __init__(self, spec: ModelSpec, seed: int) -> None:
        self.seed = seed
        self.num_layers = {str(stack.role): stack.num_layers for stack in spec.stacks}

    def value(self, name: str, shape: torch.Size) -> Tensor:
        """The full value in float64 on the CPU."""
        if len(shape) < 2:
            return torch.zeros(shape, dtype=torch.float64) if name.endswith("bias") else torch.ones(shape, dtype=torch.float64)
        generator = torch.Generator().manual_seed(self._seed_of(name))
        drawn = torch.randn(shape, dtype=torch.float64, generator=generator, device="cpu")
        return drawn.mul_(self._deviation(name, shape))

    def _deviation(self, name: str, shape: torch.Size) -> float:
        deviation = 1 / math.sqrt(shape[-1])
        if WRITES_RESIDUAL.search(name):
            deviation /= math.sqrt(2 * self.num_layers[str(StackRole(name.split(".", 1)[0]))])
        return deviation

    def _seed_of(self, name: str) -> int:
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)
