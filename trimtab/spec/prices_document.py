"""A price file: prices of pools by their id, and prices of device types by provider, region and market."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from trimtab.errors import SpecError
from trimtab.ids import DeviceTypeName
from trimtab.inventory import Market
from trimtab.prices import Price, newest_day
from trimtab.spec.device_schema import PRICES_FILE
from trimtab.spec.fields import INVALID, Marks, Reading

_OF_POOL = ("interruptions_per_hour", "startup_s")
_OF_DEVICE = ("provider", "region")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPrice:
    """A price of the pools whose id fits ``pool``, which may be a pattern."""

    pool: str
    market: Market
    usd_per_device_hour: float
    source: str
    retrieved_on: str
    interruptions_per_hour: float = 0.0
    startup_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPrices:
    """All prices of one file, in its order."""

    pools: tuple[PoolPrice, ...] = ()
    devices: tuple[Price, ...] = ()


def parse_prices(
    tree: object, marks: Marks | None = None, *, resolve: Callable[[str], str], source: str, now: datetime
) -> OwnPrices:
    """The prices of a file. ``resolve`` gives the canonical name of a device type, or raises SpecError with a suggestion.

    Raises SpecError with every problem found: an unknown key or device, a value of the wrong kind, both or neither of pool and
    device, a price that stands twice, a date that is yet to come.
    """
    reading = Reading(marks or Marks())
    values = PRICES_FILE.read(reading, "", tree)
    pools: list[PoolPrice] = []
    devices: list[Price] = []
    if values is not INVALID and INVALID not in values.values() and not reading.problems:
        newest = newest_day(now).isoformat()
        for index, part in enumerate(values["prices"]):
            where = f"prices[{index}]"
            if part["date"] > newest:
                reading.problem(f"{where}.date", f"{part['date']} is yet to come", allowed=f"at most {newest}")
            _check_parts(reading, where, part)
            if "pool" in part:
                pools.append(_pool_price(part))
            elif "device" in part:
                _add_device_price(reading, where, part, devices=devices, resolve=resolve)
    if reading.problems:
        raise SpecError(reading.problems, source=source)
    return OwnPrices(pools=tuple(pools), devices=tuple(devices))


def _check_parts(reading: Reading, where: str, part: Mapping[str, Any]) -> None:
    if ("pool" in part) == ("device" in part):
        found = "both pool and device" if "pool" in part else "neither pool nor device"
        reading.problem(where, f"found {found}", allowed="a price is for the pools of a pattern or for a type of device")
        return
    needed, strange = ((), _OF_DEVICE) if "pool" in part else (_OF_DEVICE, _OF_POOL)
    owner = "pool" if "pool" in part else "device"
    for key in needed:
        if key not in part:
            reading.problem(f"{where}.{key}", f"missing; a price of a {owner} names its {' and '.join(_OF_DEVICE)}")
    for key in strange:
        if key in part:
            reading.problem(f"{where}.{key}", f"stands beside {owner}", allowed="it has no meaning there", at_key=True)


def _pool_price(part: Mapping[str, Any]) -> PoolPrice:
    return PoolPrice(
        pool=part["pool"],
        market=part["market"],
        usd_per_device_hour=part["usd_per_device_hour"],
        source=part["source"],
        retrieved_on=part["date"],
        interruptions_per_hour=part.get("interruptions_per_hour", 0.0),
        startup_s=part.get("startup_s", 0.0),
    )


def _add_device_price(
    reading: Reading, where: str, part: Mapping[str, Any], *, devices: list[Price], resolve: Callable[[str], str]
) -> None:
    try:
        name = resolve(part["device"])
    except SpecError as error:
        problem = error.problems[0]
        reading.problem(f"{where}.device", problem.message, allowed=problem.allowed, nearest=problem.nearest)
        return
    price = Price(
        device_type=DeviceTypeName(name),
        provider=part.get("provider", ""),
        region=part.get("region", ""),
        offering="",
        market=part["market"],
        usd_per_device_hour=Decimal(str(part["usd_per_device_hour"])),
        source=part["source"],
        retrieved_on=part["date"],
    )
    place = (price.device_type, price.provider, price.region, price.market)
    if any((other.device_type, other.provider, other.region, other.market) == place for other in devices):
        reading.problem(where, f"{' '.join(place)} is there twice", allowed="each device, provider, region and market once")
        return
    devices.append(price)
