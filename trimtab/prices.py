"""What devices cost: prices by provider, region and market, and how one is found for an offer that names none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from trimtab.ids import DeviceTypeName
from trimtab.inventory import Market

STALE_AFTER_DAYS = 90
_FIRST_ZONE = timedelta(hours=14)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceQuestion:
    """Which price is looked for; ``provider`` and ``region`` None: any."""

    device_type: str
    market: Market
    provider: str | None = None
    region: str | None = None

    def fits(self, price: Price) -> bool:
        """Whether a price answers the question."""
        return (
            price.device_type == self.device_type
            and price.market is self.market
            and self.provider in (None, price.provider)
            and self.region in (None, price.region)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """Prices that a person stated (``own``) before those that come with the planner (``bundled``)."""

    own: tuple[Price, ...] = ()
    bundled: tuple[Price, ...] = ()

    def find(self, question: PriceQuestion) -> Price | None:
        """The cheapest own price that fits, else the cheapest bundled one, else None."""
        for prices in (self.own, self.bundled):
            fitting = [price for price in prices if question.fits(price)]
            if fitting:
                return min(fitting, key=lambda price: (price.usd_per_device_hour, price.provider, price.region))
        return None

    def of(self, device_type: str) -> tuple[Price, ...]:
        """All prices of a device type; an own one replaces the bundled ones of its provider, region and market."""
        replaced = {_place(price) for price in self.own}
        left = (price for price in self.bundled if _place(price) not in replaced)
        return tuple(price for price in (*self.own, *left) if price.device_type == device_type)


def age_days(retrieved_on: str, now: datetime) -> int | None:
    """Days between an ISO date and ``now``; None where the text is empty. Raises ValueError for anything that is no date."""
    if not retrieved_on:
        return None
    return (now.date() - date.fromisoformat(retrieved_on[:10])).days


def is_stale(retrieved_on: str, now: datetime) -> bool:
    """Whether a price is older than ``STALE_AFTER_DAYS``."""
    age = age_days(retrieved_on, now)
    return age is not None and age > STALE_AFTER_DAYS


def newest_day(now: datetime) -> date:
    """The latest day that it is anywhere at ``now`` (aware): what is dated later has not happened yet."""
    return (now + _FIRST_ZONE).date()


def describe_places(prices: Sequence[Price]) -> str:
    """Provider, region and market of prices, for a message."""
    return ", ".join(dict.fromkeys(f"{price.provider} {price.region} {price.market}" for price in prices))


def _place(price: Price) -> tuple[str, str, str, Market]:
    return price.device_type, price.provider, price.region, price.market
