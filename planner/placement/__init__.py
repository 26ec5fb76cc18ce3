"""Placement: what is free, and best fit of gangs onto nodes."""

from planner.placement.fit import Conflict, Item, Packed, pack
from planner.placement.occupancy import NodeSlots, PoolSlots, described_node, pool_slots, possible_nodes

__all__ = [
    "Conflict",
    "Item",
    "NodeSlots",
    "Packed",
    "PoolSlots",
    "described_node",
    "pack",
    "pool_slots",
    "possible_nodes",
]
