"""Layers for the stages of a pipeline of unlike devices, each stage within its memory, so that the step is shortest.

The step is ``(m - 1) x slowest slot + all slots + the longest rest``: m micro-batches, and per step one rest (gradients and
optimizer). For a bound on the slowest slot and one on the rest, each stage has a largest number of layers, and the fastest
devices are filled first. All bounds that can be better than the first that is possible are tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.strategies.table import BoolArray, IntArray
from planner.training.places import Array

_MOST_RESTS = 48
_MOST_PAIRS = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageTable:
    """Seconds of stages by their layers: column l - 1 is l layers; shape [S, L].

    ``slot_s`` with what stands before and after the layers; it rises evenly along a row. ``rest_s`` once per step; ``fits``
    where the memory is enough.
    """

    slot_s: Array
    rest_s: Array
    fits: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Layers of each stage, and the seconds that depend on them."""

    layers: IntArray
    pipe_s: float
    rest_s: float


def best_split(table: StageTable, num_layers: int, num_micro_batches: int) -> Split | None:
    """The shortest step of all splits of ``num_layers``; None where no split fits."""
    room = np.where(table.fits.all(axis=1), table.fits.shape[1], table.fits.argmin(axis=1))
    if (room < 1).any() or room.sum() < num_layers or len(room) > num_layers:
        return None
    slots = np.unique(table.slot_s[np.arange(table.slot_s.shape[1]) < room[:, None]])
    low, high = 0, len(slots) - 1
    while low < high:
        middle = (low + high) // 2
        caps = _caps(table.slot_s, slots[middle : middle + 1], room)[0]
        if caps.min() >= 1 and caps.sum() >= num_layers:
            high = middle
        else:
            low = middle + 1
    first = _best_of(table, _filled(table, _caps(table.slot_s, slots[low : low + 1], room), num_layers), num_micro_batches)
    return _improved(table, first, slots[low:], room, num_layers=num_layers, num_micro_batches=num_micro_batches)


def _improved(table: StageTable, first: Split, slots: Array, room: IntArray, *, num_layers: int, num_micro_batches: int) -> Split:
    """The best of all bounds on slot and rest that can beat the first split, which has the smallest bound on the slot."""
    loosest = _filled(table, room[None, :], num_layers)
    least_sum = float(_slots_of(table, loosest).sum())
    least_rest = float(table.rest_s[:, 0].max())
    bounds = (num_micro_batches - 1.0) * slots + least_sum + least_rest
    useful = slots[(bounds < first.pipe_s + first.rest_s) | (slots == slots[0])]
    rests = np.unique(table.rest_s)
    rests = rests[(rests >= least_rest) & (rests < first.rest_s)]
    rests = np.append(
        rests[np.unique(np.linspace(0, max(0, len(rests) - 1), _MOST_RESTS).astype(int))] if len(rests) else rests, np.inf
    )
    useful = useful[: max(1, _MOST_PAIRS // len(rests))]
    caps = np.minimum(_caps(table.slot_s, useful, room)[:, None, :], _caps(table.rest_s, rests, room)[None, :, :])
    caps = caps.reshape(-1, caps.shape[-1])
    caps = caps[(caps.min(axis=1) >= 1) & (caps.sum(axis=1) >= num_layers)]
    if not len(caps):
        return first
    other = _best_of(table, _filled(table, caps, num_layers), num_micro_batches)
    return other if other.pipe_s + other.rest_s < first.pipe_s + first.rest_s else first


def _caps(values: Array, limits: Array, room: IntArray) -> IntArray:
    """Layers that each stage may have where none of its values is above the limit, [limits, S]."""
    highest = np.maximum.accumulate(values, axis=1)
    counts = np.stack([np.searchsorted(row, limits, side="right") for row in highest], axis=1)
    return np.minimum(counts, room)


def _filled(table: StageTable, caps: IntArray, num_layers: int) -> IntArray:
    """Splits within the caps, [P, S]: one layer each, the rest where a layer takes the least time."""
    per_layer = table.slot_s[:, 1] - table.slot_s[:, 0] if table.slot_s.shape[1] > 1 else table.slot_s[:, 0]
    order = np.argsort(per_layer, kind="stable")
    extra = caps[:, order] - 1
    before = np.cumsum(extra, axis=1) - extra
    own = np.clip(num_layers - caps.shape[1] - before, 0, extra)
    layers = np.empty_like(caps)
    layers[:, order] = 1 + own
    return layers


def _slots_of(table: StageTable, layers: IntArray) -> Array:
    return np.asarray(table.slot_s[np.arange(layers.shape[1]), layers - 1])


def _best_of(table: StageTable, layers: IntArray, num_micro_batches: int) -> Split:
    slots = _slots_of(table, layers)
    rest = table.rest_s[np.arange(layers.shape[1]), layers - 1].max(axis=1)
    pipe = (num_micro_batches - 1.0) * slots.max(axis=1) + slots.sum(axis=1)
    best = int(np.argmin(pipe + rest))
    return Split(layers=layers[best], pipe_s=float(pipe[best]), rest_s=float(rest[best]))
