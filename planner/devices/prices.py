"""Bundled prices: data with provider, region, market, source and date, read from ``prices.json``."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import cache
from pathlib import Path

from trimtab.ids import DeviceTypeName
from trimtab.inventory import Market
from trimtab.prices import Price

_FILE = Path(__file__).with_name("prices.json")


@cache
def prices() -> tuple[Price, ...]:
    """All bundled prices, in the order of the file."""
    document = json.loads(_FILE.read_text(encoding="utf-8"))
    sources = document["sources"]
    return tuple(
        Price(
            device_type=DeviceTypeName(name),
            provider=provider,
            region=region,
            offering=offering,
            market=Market(market),
            usd_per_device_hour=Decimal(amount),
            source=sources[source]["title"],
            retrieved_on=sources[source]["date"],
        )
        for name, provider, region, offering, market, amount, source in document["prices"]
    )


def prices_of(name: str) -> tuple[Price, ...]:
    """The prices of one device type, the cheapest first."""
    return tuple(sorted((p for p in prices() if p.device_type == name), key=lambda p: (p.usd_per_device_hour, p.provider)))
