"""Which devices of each pool can be given away, as the problem shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trimtab.ids import NodeId, PoolId
from trimtab.inventory import DeviceState, Offer, Pool
from trimtab.job import DeviceRef
from trimtab.plan import PlanningProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSlots:
    """The indices of a node's devices that can be given away, rising."""

    node_id: NodeId
    free: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSlots:
    """The nodes of a pool in the order of the inventory, with what is free on each."""

    pool: Pool
    nodes: tuple[NodeSlots, ...]

    @property
    def num_free(self) -> int:
        """Free devices of all nodes."""
        return sum(len(node.free) for node in self.nodes)

    def largest_free(self) -> int:
        """The most free devices that one node has."""
        return max((len(node.free) for node in self.nodes), default=0)

    def nodes_with(self, num_devices: int) -> int:
        """Nodes with at least so many free devices."""
        return sum(len(node.free) >= num_devices for node in self.nodes)


def pool_slots(problem: PlanningProblem) -> Mapping[PoolId, PoolSlots]:
    """What can be given away in each pool.

    Free devices, and those that a unit of the problem holds without being fixed (it may be moved). Never: devices of fixed units,
    devices that other processes hold, draining ones, and assigned ones whose unit is not in the problem.
    """
    fixed = {device for request in problem.requests if request.fixed for device in request.held}
    movable = {device for request in problem.requests if not request.fixed for device in request.held}
    return {
        pool.id: PoolSlots(pool=pool, nodes=_nodes(pool, problem.inventory.offers, movable - fixed, fixed))
        for pool in problem.inventory.pools
    }


def described_node(pool_id: PoolId, position: int) -> NodeId:
    """The name of the node at ``position`` of a pool that lists no machines."""
    return NodeId(f"{pool_id}-n{position}")


def possible_nodes(pool: Pool, offers: tuple[Offer, ...]) -> int:
    """Nodes that a described pool has or could have: its own number or what its offers name, whichever is more."""
    named = (max(offer.nodes_now, offer.nodes_possible) for offer in offers if offer.pool_id == pool.id)
    return max(pool.num_nodes, *named, 0)


def _nodes(pool: Pool, offers: tuple[Offer, ...], movable: set[DeviceRef], fixed: set[DeviceRef]) -> tuple[NodeSlots, ...]:
    if pool.nodes:
        return tuple(
            NodeSlots(
                node_id=node.id,
                free=tuple(
                    sorted(
                        device.index
                        for device in node.devices
                        if _is_free(device.state, DeviceRef(pool_id=pool.id, node_id=node.id, index=device.index), movable, fixed)
                    )
                ),
            )
            for node in pool.nodes
        )
    return tuple(
        NodeSlots(
            node_id=node_id,
            free=tuple(index for index in range(pool.devices_per_node) if _ref(pool, node_id, index) not in fixed),
        )
        for node_id in (described_node(pool.id, position) for position in range(possible_nodes(pool, offers)))
    )


def _ref(pool: Pool, node_id: NodeId, index: int) -> DeviceRef:
    return DeviceRef(pool_id=pool.id, node_id=node_id, index=index)


def _is_free(state: DeviceState, device: DeviceRef, movable: set[DeviceRef], fixed: set[DeviceRef]) -> bool:
    if device in fixed:
        return False
    return state is DeviceState.FREE or (state is DeviceState.ASSIGNED and device in movable)
