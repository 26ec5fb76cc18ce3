"""Attention and dropout as a device has them.

On meta tensors torch takes neither a GPU's nor a CPU's kernels for these two, but writes them out: an attention that no device
would run so keeps its whole matrix of scores. Here they call the fused operators, whose shapes and FLOPs torch knows on meta.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from trimtab.inventory import DeviceKind

_AS_WRITTEN_OUT = functional.scaled_dot_product_attention
_PLAIN_DROPOUT = functional.dropout


@contextmanager
def kernels_of(device: DeviceKind) -> Iterator[None]:
    """Within it, ``torch.nn.functional`` attends and drops out on meta tensors as on that device."""
    attention: Any = _gpu_attention if device is DeviceKind.GPU else _cpu_attention
    functional.scaled_dot_product_attention = attention
    functional.dropout = _gpu_dropout if device is DeviceKind.GPU else _PLAIN_DROPOUT
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = _AS_WRITTEN_OUT
        functional.dropout = _PLAIN_DROPOUT


def _gpu_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **more: Any,
) -> torch.Tensor:
    """The memory-efficient kernel where there is a mask or values have a width of their own, else the flash kernel."""
    if not _fits(query, key, value) or not query.is_meta:
        return _AS_WRITTEN_OUT(query, key, value, attn_mask, dropout_p, is_causal, **more)
    key, value = _with_all_heads(query, key), _with_all_heads(query, value)
    scale = more.get("scale")
    aten = torch.ops.aten
    if attn_mask is None and value.shape[-1] == query.shape[-1]:
        found = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale)
    else:
        bias = _bias(query, key, attn_mask)
        found = aten._scaled_dot_product_efficient_attention(query, key, value, bias, True, dropout_p, is_causal, scale=scale)
    out: torch.Tensor = found[0]
    return out


def _cpu_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **more: Any,
) -> torch.Tensor:
    """The flash kernel of CPUs, which has no dropout and no grouped heads."""
    plain = dropout_p == 0.0 and value.shape[-1] == query.shape[-1] and not more.get("enable_gqa", False)
    learned = attn_mask is not None and attn_mask.requires_grad
    if not (plain and query.is_meta and _fits(query, key, value)) or learned:
        return _AS_WRITTEN_OUT(query, key, value, attn_mask, dropout_p, is_causal, **more)
    mask = _bias(query, key, attn_mask)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out: torch.Tensor = flash(query, key, value, 0.0, is_causal, attn_mask=mask, scale=more.get("scale"))[0]
    return out


def _gpu_dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """The fused kernel, which keeps one byte per element where a CPU keeps the factor."""
    if not (training and 0.0 < p < 1.0 and not inplace and input.is_meta):
        return _PLAIN_DROPOUT(input, p, training, inplace)
    out: torch.Tensor = torch.native_dropout(input, p, True)[0]
    return out


def _fits(*tensors: torch.Tensor) -> bool:
    return all(tensor.dim() == 4 and tensor.is_floating_point() for tensor in tensors)


def _with_all_heads(query: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Grouped heads repeated: the FLOP counter knows the kernels with equal heads alone."""
    ratio = query.shape[1] // other.shape[1]
    return other if ratio <= 1 else other.repeat_interleave(ratio, dim=1)


def _bias(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | None:
    """A mask as the kernels take it: added to the scores, and seen with all their dimensions."""
    if mask is None:
        return None
    if mask.dtype is torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, float("-inf"))
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
