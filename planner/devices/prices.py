"""Bundled prices: data with provider, region, market, source and date, read from ``prices.json``; and their age."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

from trimtab.ids import DeviceTypeName
from trimtab.inventory import Market

STALE_AFTER_DAYS = 90
_FILE = Path(__file__).with_name("prices.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one device of a type costs per hour somewhere, in US dollars."""

    device_type: DeviceTypeName
    provider: str
    region: str
    offering: str
    market: Market
    usd_per_device_hour: Decimal
    source: str
    retrieved_on: str


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


def age_days(retrieved_on: str, now: datetime) -> int | None:
    """Days between an ISO date and ``now``; None where the text is empty. Raises ValueError for anything that is no date."""
    if not retrieved_on:
        return None
    return (now.date() - date.fromisoformat(retrieved_on[:10])).days


def is_stale(retrieved_on: str, now: datetime) -> bool:
    """Whether a price is older than ``STALE_AFTER_DAYS``."""
    age = age_days(retrieved_on, now)
    return age is not None and age > STALE_AFTER_DAYS
