"""On which offers and in which shapes a unit could run, and why the others are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.devices.catalogue import spellings
from planner.devices.names import normalised, resolve
from planner.placement.occupancy import PoolSlots
from trimtab.ids import PoolId
from trimtab.inventory import Inventory, Offer, Shape
from trimtab.jobspec import DeviceRequest
from trimtab.plan import PlanRequest, Rejection, RejectionReason

ALL_NODE_COUNTS_UP_TO = 16
"""Numbers of whole nodes that are all tried; above, powers of two and three times these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An offer with the shapes that its pool could hold for a unit."""

    offer: Offer
    slots: PoolSlots
    shapes: tuple[Shape, ...]


def sites(
    inventory: Inventory, slots: Mapping[PoolId, PoolSlots], request: PlanRequest
) -> tuple[tuple[Site, ...], tuple[Rejection, ...]]:
    """The sites of a unit in the order of the inventory's offers, and a rejection for each offer that has none."""
    found: list[Site] = []
    refused: list[Rejection] = []
    wanted = request.spec.devices
    for offer in inventory.offers:
        pool = slots[offer.pool_id]
        reason = _not_requested(offer, pool, wanted)
        if reason:
            refused.append(_rejection(request, RejectionReason.NOT_REQUESTED, "device-request", reason))
            continue
        shapes = usable_shapes(pool, offer, wanted)
        if shapes:
            found.append(Site(offer=offer, slots=pool, shapes=shapes))
        else:
            refused.append(_rejection(request, RejectionReason.NO_CAPACITY, "capacity", _no_capacity(offer, pool, wanted)))
    return tuple(found), tuple(refused)


def usable_shapes(pool: PoolSlots, offer: Offer, wanted: DeviceRequest) -> tuple[Shape, ...]:
    """Shapes between the least and the most devices asked for that the pool's free devices can hold.

    One node: every number of devices. Several nodes: whole nodes, in the numbers of ``node_counts``; where too few nodes are
    wholly free, the largest number of devices that two nodes have, and the power of two below it.
    """
    num_nodes = min(len(pool.nodes), max(offer.nodes_now, offer.nodes_possible))
    most = min(wanted.max_devices or pool.num_free, pool.num_free, num_nodes * pool.pool.devices_per_node)
    least = wanted.min_devices
    single = (Shape(num_nodes=1, devices_per_node=k) for k in range(1, pool.largest_free() + 1))
    several = (
        Shape(num_nodes=n, devices_per_node=k)
        for k in _devices_per_node(pool)
        for n in node_counts(min(num_nodes, pool.nodes_with(k)))
    )
    return tuple(shape for shape in (*single, *several) if least <= shape.num_devices <= most)


def node_counts(most: int) -> tuple[int, ...]:
    """Numbers of nodes worth trying from 2 to ``most``: all small ones, then powers of two, three times these, and ``most``."""
    ladder = {n for n in range(2, min(most, ALL_NODE_COUNTS_UP_TO) + 1)}
    power = 1
    while power <= most:
        ladder.update(n for n in (power, 3 * power) if 2 <= n <= most)
        power *= 2
    if most >= 2:
        ladder.add(most)
    return tuple(sorted(ladder))


def requests_type(wanted: DeviceRequest, name: str) -> bool:
    """Whether a device type is among those asked for, by its exact normalised name or a catalogue alias."""
    if not wanted.types:
        return True
    known = spellings()
    canonical = resolve(name, known)
    return any(
        normalised(asked) == normalised(name) or (canonical is not None and resolve(asked, known) == canonical)
        for asked in wanted.types
    )


def _devices_per_node(pool: PoolSlots) -> tuple[int, ...]:
    full = pool.pool.devices_per_node
    if pool.nodes_with(full) >= 2:
        return (full,)
    shared = sorted((len(node.free) for node in pool.nodes), reverse=True)
    second = shared[1] if len(shared) > 1 else 0
    if second == 0:
        return ()
    return tuple(sorted({second, 1 << (second.bit_length() - 1)}))


def _not_requested(offer: Offer, pool: PoolSlots, wanted: DeviceRequest) -> str:
    if not requests_type(wanted, pool.pool.device_type):
        return f"offer {offer.id}: device type {pool.pool.device_type} is not among {', '.join(wanted.types)}"
    if wanted.markets and offer.market not in wanted.markets:
        return f"offer {offer.id}: market {offer.market} is not among {', '.join(wanted.markets)}"
    return ""


def _no_capacity(offer: Offer, pool: PoolSlots, wanted: DeviceRequest) -> str:
    if max(offer.nodes_now, offer.nodes_possible) == 0:
        return f"offer {offer.id} lists no nodes now and none that could be had"
    total = len(pool.nodes) * pool.pool.devices_per_node
    return (
        f"offer {offer.id}: {wanted.min_devices} devices are asked for at least, {pool.num_free} of {total} are free "
        f"(at most {pool.largest_free()} on one node)"
    )


def _rejection(request: PlanRequest, reason: RejectionReason, rule: str, detail: str) -> Rejection:
    return Rejection(unit_id=request.unit_id, reason=reason, rule=rule, detail=detail)
