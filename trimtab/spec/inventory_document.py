"""An inventory file as an Inventory: pools that a person describes, with or without machines behind them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from trimtab.errors import SpecError
from trimtab.ids import DeviceTypeName, OfferId, PoolId
from trimtab.inventory import DeviceType, Inventory, Link, Offer, Pool
from trimtab.spec.fields import INVALID, Marks, Reading, nearest
from trimtab.spec.schema import INVENTORY

Values = Mapping[str, Any]


def parse_inventory(
    tree: object, marks: Marks | None = None, *, catalogue: Mapping[str, DeviceType], source: str, now: datetime
) -> Inventory:
    """Check an inventory file's tree and build the Inventory.

    ``catalogue`` holds the device types known without being described; the file's own come first. ``source`` is the file's name,
    ``now`` the time of reading. Raises SpecError with every problem found.
    """
    reading = Reading(marks or Marks())
    values = INVENTORY.read(reading, "", tree)
    inventory = None
    if values is not INVALID and INVALID not in values.values() and not reading.problems:
        inventory = _build(reading, values, catalogue, source, now)
    if inventory is None or reading.problems:
        raise SpecError(reading.problems, source=source)
    return inventory


def _build(reading: Reading, values: Values, catalogue: Mapping[str, DeviceType], source: str, now: datetime) -> Inventory | None:
    types = {str(t.name): t for t in (_device_type(part) for part in values.get("device_types", ()))}
    known = {**catalogue, **types}
    used: dict[str, DeviceType] = {}
    pools: list[Pool] = []
    offers: list[Offer] = []
    for index, part in enumerate(values["pools"]):
        where = f"pools[{index}]"
        device_type = known.get(part["device_type"])
        if device_type is None:
            names = sorted(known)
            reading.problem(
                f"{where}.device_type",
                f"unknown device type '{part['device_type']}'",
                allowed=", ".join(names) + ", or one of your own under device_types",
                nearest=nearest(part["device_type"], names),
            )
            continue
        if any(pool.id == part["name"] for pool in pools):
            reading.problem(f"{where}.name", f"'{part['name']}' is there twice", allowed="a name of its own for each pool")
            continue
        used[str(device_type.name)] = device_type
        pools.append(_pool(part, device_type))
        offers.extend(_offers(reading, where, part))
    if reading.problems:
        return None
    return Inventory(device_types=tuple(used.values()), pools=tuple(pools), offers=tuple(offers), observed_at=now, source=source)


def _pool(part: Values, device_type: DeviceType) -> Pool:
    return Pool(
        id=PoolId(part["name"]),
        device_type=device_type.name,
        devices_per_node=part["devices_per_node"],
        num_nodes=part["nodes"],
        zone=part.get("zone", "default"),
        node_link=_link("node", part.get("node_link")) or device_type.link,
        network=_link("network", part.get("network")),
    )


def _offers(reading: Reading, where: str, part: Values) -> list[Offer]:
    out: list[Offer] = []
    for index, offer in enumerate(part["offers"]):
        market = offer["market"]
        if any(other.market is market for other in out):
            reading.problem(f"{where}.offers[{index}].market", f"'{market}' is there twice", allowed="each market once")
            continue
        nodes = part["nodes"]
        out.append(
            Offer(
                id=OfferId(f"{part['name']}/{market}"),
                pool_id=PoolId(part["name"]),
                market=market,
                price_usd_per_device_hour=offer["price_per_device_hour"],
                source=offer["source"],
                retrieved_on=offer["date"],
                interruptions_per_hour=offer.get("interruptions_per_hour", 0.0),
                startup_s=offer.get("startup", 0.0),
                nodes_now=nodes,
                nodes_possible=max(nodes, offer.get("max_nodes", nodes)),
            )
        )
    return out


def _device_type(part: Values) -> DeviceType:
    return DeviceType(
        name=DeviceTypeName(part["name"]),
        kind=part["kind"],
        memory_bytes=part["memory"],
        peak_flops={name: value * 1e12 for name, value in part["tflops"].items()},
        memory_bandwidth_bytes_per_s=part["memory_bandwidth"],
        source=part["source"],
        retrieved_on=part["date"],
        link=_link("link", part.get("link")),
        domain_size=part.get("domain_size", 1),
    )


def _link(name: str, part: Values | None) -> Link | None:
    if part is None:
        return None
    return Link(name=name, bandwidth_bytes_per_s=part["bandwidth"], latency_s=part["latency"])
