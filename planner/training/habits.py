"""What a training framework does in every step, as arrays of facts (no fitted numbers): kernels, formats, what it overlaps."""

from __future__ import annotations

from dataclasses import dataclass

from planner.training.places import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HabitArrays:
    """Habits per strategy; shape [M]. Flags are 0 or 1, bytes are per element.

    See ``Profile`` for each; ``gather_bytes`` are those of gathered parameters, ``accumulate_bytes`` what adding the gradient of
    one parameter to those of earlier micro-batches moves through memory.
    """

    fused_attention: Array
    gradient_bytes: Array
    gather_bytes: Array
    sends_by_parts: Array
    accumulate_bytes: Array
    sends_copies_once: Array
    hides_experts: Array
    held_gradient_bytes: Array
    counts_process: Array
    spare_buffers: Array
    shard_bytes: Array
    logit_bytes: Array
    selective_drop: Array
    keeps_gathered: Array
    keeps_low: Array
    gathered_layers: Array
