"""Best fit of gangs onto nodes: which devices each one gets, and a proof where they cannot all be placed.

A gang takes ``num_nodes`` nodes and the same number of devices on each, so that tensor ranks, which come first in rank order
and divide the devices of a node, are always neighbours on one node. A gang that stays where it is keeps exactly the devices
that it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.placement.occupancy import NodeSlots, PoolSlots
from trimtab.ids import NodeId, PoolId, UnitId
from trimtab.inventory import Shape
from trimtab.job import DeviceRef

MAX_SEARCH_STEPS = 20_000
"""Steps of the exhaustive search before it gives up without a proof."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One gang to place. ``held`` is set where it keeps its devices."""

    unit_id: UnitId
    pool_id: PoolId
    shape: Shape
    held: tuple[DeviceRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Devices of every item, in rank order."""

    devices: Mapping[UnitId, tuple[DeviceRef, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """The items of one pool that cannot stand side by side. ``proven``: the exhaustive search found no way."""

    pool_id: PoolId
    unit_ids: tuple[UnitId, ...]
    proven: bool


def pack(slots: Mapping[PoolId, PoolSlots], items: Sequence[Item]) -> Packed | Conflict:
    """Place all items, or name the first pool (in order of id) where that fails."""
    devices: dict[UnitId, tuple[DeviceRef, ...]] = {}
    for pool_id in sorted({item.pool_id for item in items}):
        found = _pack_pool(slots[pool_id], [item for item in items if item.pool_id == pool_id])
        if isinstance(found, Conflict):
            return found
        devices.update(found)
    return Packed(devices=devices)


def _pack_pool(slots: PoolSlots, items: list[Item]) -> dict[UnitId, tuple[DeviceRef, ...]] | Conflict:
    free = {node.node_id: list(node.free) for node in slots.nodes}
    devices: dict[UnitId, tuple[DeviceRef, ...]] = {}
    for item in (item for item in items if item.held):
        for device in item.held:
            if device.index not in free.get(device.node_id, ()):
                return Conflict(pool_id=slots.pool.id, unit_ids=tuple(sorted(i.unit_id for i in items if i.held)), proven=True)
            free[device.node_id].remove(device.index)
        devices[item.unit_id] = item.held
    moving = sorted(
        (item for item in items if not item.held),
        key=lambda i: (-i.shape.devices_per_node, -i.shape.num_nodes, i.unit_id),
    )
    chosen = _best_fit(slots.nodes, free, moving)
    proven = False
    if chosen is None:
        chosen, proven = _exhaustive(slots.nodes, free, moving)
    if chosen is None:
        return Conflict(pool_id=slots.pool.id, unit_ids=tuple(sorted(item.unit_id for item in items)), proven=proven)
    for item in moving:
        devices[item.unit_id] = _take(slots.pool.id, free, chosen[item.unit_id], item.shape.devices_per_node)
    return devices


def _best_fit(
    nodes: Sequence[NodeSlots], free: Mapping[NodeId, list[int]], items: Sequence[Item]
) -> dict[UnitId, tuple[NodeId, ...]] | None:
    """Largest first, each onto the nodes that it leaves least of; None where one does not fit."""
    left = {node.node_id: len(free[node.node_id]) for node in nodes}
    order = {node.node_id: position for position, node in enumerate(nodes)}
    chosen: dict[UnitId, tuple[NodeId, ...]] = {}
    for item in items:
        size = item.shape.devices_per_node
        able = sorted((count, order[node_id], node_id) for node_id, count in left.items() if count >= size)
        if len(able) < item.shape.num_nodes:
            return None
        taken = sorted(able[: item.shape.num_nodes], key=lambda entry: entry[1])
        for _, _, node_id in taken:
            left[node_id] -= size
        chosen[item.unit_id] = tuple(node_id for _, _, node_id in taken)
    return chosen


def _exhaustive(
    nodes: Sequence[NodeSlots], free: Mapping[NodeId, list[int]], items: Sequence[Item]
) -> tuple[dict[UnitId, tuple[NodeId, ...]] | None, bool]:
    """Depth-first over all packings; nodes with equal free counts are alike. The flag says that there is provably none."""
    left = [len(free[node.node_id]) for node in nodes]
    names = [node.node_id for node in nodes]
    chosen: list[tuple[int, ...]] = []
    steps = 0

    def place(position: int) -> bool:
        nonlocal steps
        if position == len(items):
            return True
        shape = items[position].shape
        for choice in _choices(left, shape.num_nodes, shape.devices_per_node):
            steps += 1
            if steps > MAX_SEARCH_STEPS:
                return False
            for index in choice:
                left[index] -= shape.devices_per_node
            chosen.append(choice)
            if place(position + 1):
                return True
            chosen.pop()
            for index in choice:
                left[index] += shape.devices_per_node
        return False

    if place(0):
        return {item.unit_id: tuple(names[i] for i in choice) for item, choice in zip(items, chosen, strict=True)}, False
    return None, steps <= MAX_SEARCH_STEPS


def _choices(left: Sequence[int], num_nodes: int, size: int) -> list[tuple[int, ...]]:
    """The ways to take ``num_nodes`` nodes with ``size`` free devices, up to the exchange of nodes with equal free counts."""
    classes: dict[int, list[int]] = {}
    for index, count in enumerate(left):
        if count >= size:
            classes.setdefault(count, []).append(index)
    found: list[tuple[int, ...]] = []
    ordered = sorted(classes)

    def extend(position: int, taken: tuple[int, ...]) -> None:
        missing = num_nodes - len(taken)
        if missing == 0:
            found.append(tuple(sorted(taken)))
            return
        if position == len(ordered):
            return
        members = classes[ordered[position]]
        for number in range(min(missing, len(members)), -1, -1):
            extend(position + 1, taken + tuple(members[:number]))

    extend(0, ())
    return found


def _take(pool_id: PoolId, free: Mapping[NodeId, list[int]], node_ids: Sequence[NodeId], size: int) -> tuple[DeviceRef, ...]:
    """Take ``size`` devices of each node and return them in rank order."""
    taken: list[DeviceRef] = []
    for node_id in node_ids:
        for index in _neighbours(free[node_id], size):
            free[node_id].remove(index)
            taken.append(DeviceRef(pool_id=pool_id, node_id=node_id, index=index))
    return tuple(taken)


def _neighbours(free: Sequence[int], size: int) -> tuple[int, ...]:
    """``size`` of the free indices: the shortest run of consecutive ones that is long enough, else the tightest window."""
    ordered = sorted(free)
    runs: list[list[int]] = []
    for index in ordered:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    able = [run for run in runs if len(run) >= size]
    if able:
        return tuple(min(able, key=lambda run: (len(run), run[0]))[:size])
    windows: list[list[int]] = [ordered[start : start + size] for start in range(len(ordered) - size + 1)]
    tightest = min(windows, key=lambda window: (window[-1] - window[0], window[0]))
    return tuple(tightest)
