"""The building blocks of a transformer layer: norm, attention, feed-forward, positions.

Shape letters: B samples, S positions of the stack, M positions of the encoder's output, H hidden size, A query heads, K
key-value heads, D head size. The code knows nothing of parallelism: head counts are read from the tensors, so that a projection
which holds only some of the heads gives just these.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trimtab.model import ActivationKind, AttentionSpec, FeedForwardSpec, ModelSpec, NormKind, PositionKind, StackSpec

ACTIVATIONS: dict[ActivationKind, Callable[[Tensor], Tensor]] = {
    ActivationKind.SILU: F.silu,
    ActivationKind.GELU: F.gelu,
    ActivationKind.RELU: F.relu,
}


class Linear(nn.Linear):
    """torch's layer without initial values: ours are in ``initial.py``, and torch's on the meta device import for seconds."""

    def reset_parameters(self) -> None:
        """Nothing."""


class Embedding(nn.Embedding):
    """The same for the embedding."""

    def reset_parameters(self) -> None:
        """Nothing."""


class RMSNorm(nn.RMSNorm):
    """The same for the RMS norm. Its weights follow the format of the activation, since torch fuses only equal formats."""

    def reset_parameters(self) -> None:
        """Nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., H] to [..., H]."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class LayerNorm(nn.LayerNorm):
    """The same for the layer norm."""

    def reset_parameters(self) -> None:
        """Nothing."""


def build_norm(stack: StackSpec, size: int, epsilon: float) -> nn.Module:
    """The norm of a stack over the last dimension of ``size``; an RMS norm has no bias, whatever ``norm_bias`` says."""
    if stack.norm is NormKind.RMS:
        return RMSNorm(size, eps=epsilon)
    return LayerNorm(size, eps=epsilon, bias=stack.norm_bias)


class Rotary(nn.Module):
    """Rotary position embedding (arXiv 2104.09864, equation 34) over neighbouring pairs of a head, as a complex product.

    The table of unit complex numbers [S, D/2] is computed in float64 and kept for the longest length asked for, so it is no part
    of the model's state and does not depend on how the model was built.
    """

    def __init__(self, head_size: int, theta: float) -> None:
        super().__init__()
        if head_size % 2:
            raise ValueError(f"rotary positions need an even head_size, not {head_size}")
        self.head_size = head_size
        self.theta = theta
        self._table: Tensor | None = None

    def forward(self, length: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The factors of positions 0..length-1: complex [length, D/2], complex128 for float64 and complex64 otherwise."""
        wanted = torch.complex128 if dtype is torch.float64 else torch.complex64
        table = self._table
        if table is None or table.shape[0] < length or table.dtype is not wanted or table.device != device:
            pairs = torch.arange(0, self.head_size, 2, dtype=torch.float64) / self.head_size
            angles = torch.outer(torch.arange(length, dtype=torch.float64), self.theta**-pairs)
            table = torch.polar(torch.ones_like(angles), angles).to(device=device, dtype=wanted)
            self._table = table
        return table[:length]


def rotate(heads: Tensor, factors: Tensor) -> Tensor:
    """Turn the pairs of ``heads`` [B, S, A, D] by ``factors`` [S, D/2]; computed in at least float32."""
    wide = heads if heads.dtype in (torch.float32, torch.float64) else heads.float()
    pairs = torch.view_as_complex(wide.view(*wide.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * factors[:, None]).flatten(-2).to(heads.dtype)


class Positions(nn.Module):
    """Adds positions to embeddings [B, S, H]: a learned table, the sines of arXiv 1706.03762 section 3.5, or nothing.

    For sines the embeddings are scaled by sqrt(H) first, as there.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.kind = spec.position
        self.max_positions = spec.max_positions
        if self.kind is PositionKind.LEARNED:
            self.weight = nn.Parameter(torch.empty(spec.max_positions, spec.hidden_size))
        self._table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings with positions, same shape, in the format of the arithmetic: here the residual stream begins.

        Raises ValueError where a learned table is too short.
        """
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        length = x.shape[1]
        if self.kind is PositionKind.LEARNED:
            if length > self.max_positions:
                raise ValueError(f"sequence of {length} positions, but max_positions is {self.max_positions}")
            return x + self.weight[:length].to(x.dtype)
        if self.kind is PositionKind.SINUSOIDAL:
            return x * math.sqrt(x.shape[-1]) + self._sines(x)
        return x

    def _sines(self, x: Tensor) -> Tensor:
        length, size = x.shape[1], x.shape[2]
        table = self._table
        if table is None or table.shape[0] < length or table.dtype is not x.dtype or table.device != x.device:
            rates = torch.exp(torch.arange(0, size, 2, dtype=torch.float64) * (-math.log(10_000.0) / size))
            angles = torch.outer(torch.arange(length, dtype=torch.float64), rates)
            interleaved = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :size]
            table = interleaved.to(device=x.device, dtype=x.dtype)
            self._table = table
        return table[:length]


class Attention(nn.Module):
    """Multi-head, grouped-query or multi-query attention over itself or over the encoder's output."""

    def __init__(self, spec: AttentionSpec, hidden_size: int, *, causal: bool) -> None:
        super().__init__()
        self.head_size = spec.head_size
        self.causal = causal
        self.window = spec.window
        self.grouped = spec.num_kv_heads != spec.num_heads
        self.query = Linear(hidden_size, spec.num_heads * spec.head_size, bias=spec.qkv_bias)
        self.key = Linear(hidden_size, spec.num_kv_heads * spec.head_size, bias=spec.qkv_bias)
        self.value = Linear(hidden_size, spec.num_kv_heads * spec.head_size, bias=spec.qkv_bias)
        self.output = Linear(spec.num_heads * spec.head_size, hidden_size, bias=spec.output_bias)

    def forward(self, x: Tensor, memory: Tensor | None = None, rotary: Tensor | None = None) -> Tensor:
        """``x`` [B, S, H] attends to ``memory`` [B, M, H], or to itself where there is none; returns [B, S, H]."""
        source = x if memory is None else memory
        query = self.query(x).unflatten(-1, (-1, self.head_size))
        key = self.key(source).unflatten(-1, (-1, self.head_size))
        value = self.value(source).unflatten(-1, (-1, self.head_size))
        if rotary is not None:
            query, key = rotate(query, rotary), rotate(key, rotary)
        mask = self._window_mask(query)
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=mask,
            is_causal=self.causal and mask is None,
            enable_gqa=self.grouped,
        )
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return out

    def _window_mask(self, query: Tensor) -> Tensor | None:
        """True where a position may look: at most ``window`` positions back (and, not causal, as many ahead)."""
        length = query.shape[1]
        if self.window is None or length <= self.window:
            return None
        position = torch.arange(length, device=query.device)
        distance = position[:, None] - position[None, :]
        seen = distance.abs() < self.window
        return seen & (distance >= 0) if self.causal else seen


class FeedForward(nn.Module):
    """Two matrices with an activation between them, or three where the activation gates (SwiGLU, arXiv 2002.05202)."""

    def __init__(self, spec: FeedForwardSpec, hidden_size: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[spec.activation]
        self.gate = Linear(hidden_size, spec.hidden_size, bias=spec.bias) if spec.gated else None
        self.up = Linear(hidden_size, spec.hidden_size, bias=spec.bias)
        self.down = Linear(spec.hidden_size, hidden_size, bias=spec.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, H] to [B, S, H]."""
        inner = self.activation(self.up(x)) if self.gate is None else self.activation(self.gate(x)) * self.up(x)
        out: Tensor = self.down(inner)
        return out


class Layer(nn.Module):
    """One pre-norm layer: attention, cross-attention where the stack has it, feed-forward, each with its norm and residual."""

    def __init__(self, stack: StackSpec, model: ModelSpec) -> None:
        super().__init__()
        size, epsilon = model.hidden_size, model.norm_epsilon
        self.attention_norm = build_norm(stack, size, epsilon)
        self.attention = Attention(stack.attention, size, causal=stack.causal)
        self.cross_norm = build_norm(stack, size, epsilon) if stack.cross_attention else None
        self.cross_attention = Attention(stack.attention, size, causal=False) if stack.cross_attention else None
        self.feed_forward_norm = build_norm(stack, size, epsilon)
        self.feed_forward = FeedForward(stack.feed_forward, size)

    def forward(self, x: Tensor, memory: Tensor | None = None, rotary: Tensor | None = None) -> Tensor:
        """``x`` [B, S, H], the encoder's output ``memory`` [B, M, H], rotary factors [S, D/2]; returns [B, S, H]."""
        x = x + self.attention(self.attention_norm(x), None, rotary)
        if self.cross_attention is not None and self.cross_norm is not None:
            x = x + self.cross_attention(self.cross_norm(x), memory)
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out
