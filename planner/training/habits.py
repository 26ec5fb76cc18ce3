"""What a training framework does in every step, as facts and not as fitted numbers: kernels that it has, formats, what it overlaps."""

from __future__ import annotations

from dataclasses import dataclass

from planner.training.places import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HabitArrays:
    """Habits per strategy; shape [M]. Flags are 0 or 1, bytes are per element.

    ``fused_attention``: scores are never written to memory. ``gradient_bytes`` are those of gradients on the wire and in the
    accumulation buffer, ``gather_bytes`` of gathered parameters. ``shards_per_micro_batch``: fully sharded parameters are gathered
    (and gradients scattered) for every micro-batch. ``sums_once``: gradients are reduced once per step.
    """

    fused_attention: Array
    gradient_bytes: Array
    gather_bytes: Array
    sends_by_parts: Array
    accumulate_bytes: Array
    sends_copies_once: Array
    held_gradient_bytes: Array
    spare_buffers: Array
    shard_bytes: Array
    logit_bytes: Array
    selective_drop: Array
