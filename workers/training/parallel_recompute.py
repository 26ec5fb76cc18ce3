"""Recompute: what the backward pass computes again instead of keeping.

``full`` keeps the input of each layer only. ``selective`` keeps the outputs of matrix products and of attention and computes
the cheap rest (norms, rotary factors, activations, residual sums) again; it is torch's selective checkpointing with that list
of operations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from trimtab.strategy import Recompute
from workers.training.models import Transformer
from workers.training.models.blocks import Layer

aten = torch.ops.aten
KEPT = frozenset(
    {
        aten.mm.default,
        aten.addmm.default,
        aten.bmm.default,
        aten.linear.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
        aten._scaled_dot_product_attention_math.default,
    }
)
"""Operations whose outputs selective recompute keeps."""


def apply_recompute(model: Transformer, recompute: Recompute) -> None:
    """Let each layer of ``model`` compute again as ``recompute`` says."""
    if recompute is Recompute.NONE:
        return
    for module in model.modules():
        if isinstance(module, Layer):
            module.forward = partial(_run, module.forward, recompute)  # type: ignore[method-assign]


def _run(forward: Callable[..., Any], recompute: Recompute, *args: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args)
    if recompute is Recompute.SELECTIVE:
        contexts = partial(create_selective_checkpoint_contexts, _policy)
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False)


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in KEPT else CheckpointPolicy.PREFER_RECOMPUTE
