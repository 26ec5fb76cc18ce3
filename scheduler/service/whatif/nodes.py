"""An inventory with more or fewer nodes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from trimtab.ids import NodeId, PoolId
from trimtab.inventory import DeviceState, Inventory, Node, Offer, Pool


def with_node_counts(inventory: Inventory, counts: Mapping[PoolId, int]) -> Inventory:
    """Each pool with the number of nodes that ``counts`` names (at least 1); its offers have as many more or fewer.

    New nodes of a pool that lists machines are like its first one, with every device free.
    """
    pools = tuple(_resized(pool, counts.get(pool.id, pool.num_nodes)) for pool in inventory.pools)
    more = {old.id: new.num_nodes - old.num_nodes for old, new in zip(inventory.pools, pools, strict=True)}
    offers = tuple(_with_more(offer, more[offer.pool_id]) for offer in inventory.offers)
    return replace(inventory, pools=pools, offers=offers)


def with_device_count(inventory: Inventory, num_devices: int) -> Inventory:
    """The inventory with pools that can hold a gang of exactly ``num_devices``; nodes that are added are there now.

    A pool that has too few free devices gets more nodes. A described one with more nodes than the gang needs is cut to these,
    because the planner tries every number of nodes only up to a limit, and always the largest; listed machines stay.
    """
    pools: list[Pool] = []
    offers: dict[PoolId, tuple[Offer, ...]] = {}
    for pool in inventory.pools:
        own = tuple(offer for offer in inventory.offers if offer.pool_id == pool.id)
        if pool.nodes:
            more = max(0, math.ceil((num_devices - _num_free(pool)) / pool.devices_per_node))
            needed = pool.num_nodes + more
            own = tuple(_with_more(offer, more) for offer in own)
        else:
            needed = math.ceil(num_devices / pool.devices_per_node)
            had = max(pool.num_nodes, *(max(offer.nodes_now, offer.nodes_possible) for offer in own), 0)
            own = tuple(_exactly(offer, needed, more=max(0, needed - had)) for offer in own)
        pools.append(_resized(pool, needed))
        offers[pool.id] = own
    in_order = {offer.id: offer for own in offers.values() for offer in own}
    return replace(inventory, pools=tuple(pools), offers=tuple(in_order[offer.id] for offer in inventory.offers))


def _exactly(offer: Offer, num_nodes: int, *, more: int) -> Offer:
    return replace(offer, nodes_now=min(num_nodes, offer.nodes_now + more), nodes_possible=num_nodes)


def _num_free(pool: Pool) -> int:
    return sum(device.state is DeviceState.FREE for node in pool.nodes for device in node.devices)


def _with_more(offer: Offer, more: int) -> Offer:
    return replace(offer, nodes_now=max(0, offer.nodes_now + more), nodes_possible=max(0, offer.nodes_possible + more))


def _resized(pool: Pool, num_nodes: int) -> Pool:
    nodes = pool.nodes[:num_nodes]
    if nodes:
        nodes += tuple(_like(nodes[0], pool, position) for position in range(len(nodes), num_nodes))
    return replace(pool, num_nodes=num_nodes, nodes=nodes)


def _like(node: Node, pool: Pool, position: int) -> Node:
    """Another node of the same make, with every device free."""
    devices = tuple(
        replace(device, state=DeviceState.FREE, used_by="", uuid="", memory_free_bytes=device.memory_bytes)
        for device in node.devices
    )
    return replace(node, id=NodeId(f"{pool.id}-what-if-{position}"), boot_id="", devices=devices)
