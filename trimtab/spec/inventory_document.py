"""An inventory file as an Inventory: pools that a person describes, with or without machines behind them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from trimtab.errors import SpecError
from trimtab.ids import DeviceTypeName, OfferId, PoolId
from trimtab.inventory import DeviceType, Inventory, Link, Offer, Pool, Storage
from trimtab.prices import Price, PriceBook, PriceQuestion, describe_places, newest_day
from trimtab.spec.fields import INVALID, Marks, Reading, nearest
from trimtab.spec.schema import INVENTORY

Values = Mapping[str, Any]


def parse_inventory(
    tree: object,
    marks: Marks | None = None,
    *,
    catalogue: Mapping[str, DeviceType],
    prices: PriceBook | None = None,
    source: str,
    now: datetime,
) -> Inventory:
    """Check an inventory file's tree and build the Inventory.

    ``catalogue`` holds the device types known without being described; the file's own come first. ``prices`` answers for offers
    that name no price. ``source`` is the file's name, ``now`` the time of reading. Raises SpecError with every problem found.
    """
    reading = Reading(marks or Marks())
    values = INVENTORY.read(reading, "", tree)
    inventory = None
    if values is not INVALID and INVALID not in values.values() and not reading.problems:
        inventory = _Building(reading, catalogue, prices or PriceBook(), source=source, now=now).inventory(values)
    if inventory is None or reading.problems:
        raise SpecError(reading.problems, source=source)
    return inventory


class _Building:
    """Makes the inventory of one file, noting what does not go together."""

    def __init__(
        self, reading: Reading, catalogue: Mapping[str, DeviceType], prices: PriceBook, *, source: str, now: datetime
    ) -> None:
        self._reading = reading
        self._catalogue = catalogue
        self._prices = prices
        self._source = source
        self._now = now

    def inventory(self, values: Values) -> Inventory | None:
        types = {str(t.name): t for t in (self._device_type(part) for part in values.get("device_types", ()))}
        known = {**self._catalogue, **types}
        used: dict[str, DeviceType] = {}
        pools: list[Pool] = []
        offers: list[Offer] = []
        for index, part in enumerate(values["pools"]):
            where = f"pools[{index}]"
            device_type = known.get(part["device_type"])
            if device_type is None:
                self._unknown(f"{where}.device_type", part["device_type"], known)
                continue
            if any(pool.id == part["name"] for pool in pools):
                self._reading.problem(
                    f"{where}.name", f"'{part['name']}' is there twice", allowed="a name of its own for each pool"
                )
                continue
            used[str(device_type.name)] = device_type
            pools.append(self._pool(part, device_type))
            offers.extend(self._offers(where, part, str(device_type.name)))
        if self._reading.problems:
            return None
        return Inventory(
            device_types=tuple(used.values()),
            pools=tuple(pools),
            offers=tuple(offers),
            observed_at=self._now,
            source=self._source,
        )

    def _unknown(self, where: str, found: str, known: Mapping[str, DeviceType]) -> None:
        names = sorted(known)
        self._reading.problem(
            where,
            f"unknown device type '{found}'",
            allowed=", ".join(names) + ", or one of your own under device_types",
            nearest=nearest(found, names),
        )

    def _pool(self, part: Values, device_type: DeviceType) -> Pool:
        return Pool(
            id=PoolId(part["name"]),
            device_type=device_type.name,
            devices_per_node=part["devices_per_node"],
            num_nodes=part["nodes"],
            zone=part.get("zone", "default"),
            node_link=_link("node", part.get("node_link")) or device_type.link,
            network=_link("network", part.get("network")),
            storage=self._storage(part.get("storage")),
        )

    def _offers(self, where: str, part: Values, device_type: str) -> list[Offer]:
        out: list[Offer] = []
        for index, offer in enumerate(part["offers"]):
            path, market = f"{where}.offers[{index}]", offer["market"]
            if any(other.market is market for other in out):
                self._reading.problem(f"{path}.market", f"'{market}' is there twice", allowed="each market once")
                continue
            price = self._price(path, offer, device_type)
            if price is None:
                continue
            amount, source, day = price
            nodes = part["nodes"]
            out.append(
                Offer(
                    id=OfferId(f"{part['name']}/{market}"),
                    pool_id=PoolId(part["name"]),
                    market=market,
                    price_usd_per_device_hour=amount,
                    source=source,
                    retrieved_on=day,
                    interruptions_per_hour=offer.get("interruptions_per_hour", 0.0),
                    startup_s=offer.get("startup", 0.0),
                    nodes_now=nodes,
                    nodes_possible=max(nodes, offer.get("max_nodes", nodes)),
                )
            )
        return out

    def _price(self, path: str, offer: Values, device_type: str) -> tuple[float, str, str] | None:
        """Amount, source and day: as stated, else of the cheapest known price that fits."""
        if "price_per_device_hour" in offer:
            missing = [key for key in ("source", "date") if key not in offer]
            for key in missing:
                self._reading.problem(f"{path}.{key}", "missing; a price says where and when it comes from")
            newest = newest_day(self._now).isoformat()
            if not missing and offer["date"] > newest:
                self._reading.problem(f"{path}.date", f"{offer['date']} is yet to come", allowed=f"at most {newest}")
            return None if missing else (offer["price_per_device_hour"], offer["source"], offer["date"])
        question = PriceQuestion(
            device_type=device_type, market=offer["market"], provider=offer.get("provider"), region=offer.get("region")
        )
        found = self._prices.find(question)
        if found is None:
            self._no_price(path, device_type, self._prices.of(device_type))
            return None
        place = " ".join(part for part in (found.provider, found.region) if part)
        return float(found.usd_per_device_hour), f"{found.source} ({place})", found.retrieved_on

    def _no_price(self, path: str, device_type: str, known: tuple[Price, ...]) -> None:
        there = f"; known for {device_type}: {describe_places(known)}" if known else ""
        self._reading.problem(
            f"{path}.price_per_device_hour",
            f"missing, and no known price of a {device_type} fits the offer",
            allowed=f"US dollars with source and date{there}",
        )

    def _storage(self, part: Values | None) -> Storage | None:
        if part is None:
            return None
        rates = ("local_read", "local_write", "network_read", "network_write", "host_link")
        return Storage(
            **{f"{name}_bytes_per_s": part[name] for name in rates if name in part},
            host_memory_bytes=part.get("host_memory"),
            source=f"{self._source}: {part['source']}" if "source" in part else self._source,
            retrieved_on=part.get("date", ""),
        )

    def _device_type(self, part: Values) -> DeviceType:
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
            network=_link("network", part.get("network")),
            storage=self._storage(part.get("storage")),
        )


def _link(name: str, part: Values | None) -> Link | None:
    if part is None:
        return None
    return Link(name=name, bandwidth_bytes_per_s=part["bandwidth"], latency_s=part["latency"])
