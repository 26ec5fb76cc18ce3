"""Prices from a price file (``docs/job-file.md``), and an assumed one, labelled so, for every pool that it does not name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from scheduler.adapters.documents.tree import read_document
from trimtab.errors import SpecError
from trimtab.ids import OfferId
from trimtab.inventory import DeviceKind, Inventory, Market, Offer, Pool
from trimtab.prices import Price, PriceBook, PriceQuestion
from trimtab.spec import OwnPrices, PoolPrice, parse_prices

ASSUMED_USD_PER_CORE_HOUR = 0.04
"""What a core-hour of a general-purpose cloud machine costs on demand, to one digit: an assumption, shown as one."""
ASSUMED_USD_PER_ACCELERATOR_HOUR = 2.0
ASSUMED_ON = "2026-01-01"


class FilePrices:
    """PriceBook over a file that is read again when it changes. A pool that nothing in it fits gets an assumed on-demand price.

    ``resolve`` gives the canonical name of a device type or raises SpecError. A price of a pool goes before one of its device
    type; of several places the cheapest counts.
    """

    def __init__(self, path: Path | None, *, resolve: Callable[[str], str] = str) -> None:
        self._path = path
        self._resolve = resolve
        self._stamp: tuple[int, int] | None = None
        self._prices = OwnPrices()

    def offers(self, at: datetime, inventory: Inventory) -> Sequence[Offer]:
        """See the port. Raises SpecError for a file that cannot be read, naming every problem."""
        self.refresh(at)
        return tuple(offer for pool in inventory.pools for offer in self._offers(inventory, pool))

    def refresh(self, at: datetime) -> OwnPrices:
        """What the file says now. Raises SpecError for a file that cannot be read, naming every problem."""
        if self._path is None:
            return self._prices
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._prices = None, OwnPrices()
            return self._prices
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            tree, marks = read_document(self._path)
            self._prices = parse_prices(tree, marks, resolve=self._resolve, source=str(self._path), now=at)
            self._stamp = stamp
        return self._prices

    def _offers(self, inventory: Inventory, pool: Pool) -> list[Offer]:
        named: dict[Market, PoolPrice] = {}
        for line in self._prices.pools:
            if fnmatchcase(pool.id, line.pool):
                named.setdefault(line.market, line)
        for market in Market:
            price = self._of_type(pool, market)
            if price is not None and market not in named:
                named[market] = _of_pool(pool, price)
        return [_offer(pool, line) for line in named.values() or (_assumed(inventory, pool),)]

    def _of_type(self, pool: Pool, market: Market) -> Price | None:
        if not self._prices.devices:
            return None
        return PriceBook(own=self._prices.devices).find(PriceQuestion(device_type=self._name_of(pool), market=market))

    def _name_of(self, pool: Pool) -> str:
        """The catalogue's name of a pool's devices: a GPU that was found here goes by the name that it gave itself."""
        try:
            return self._resolve(pool.device_type)
        except SpecError:
            return pool.device_type


def _of_pool(pool: Pool, price: Price) -> PoolPrice:
    return PoolPrice(
        pool=pool.id,
        market=price.market,
        usd_per_device_hour=float(price.usd_per_device_hour),
        source=f"{price.source} ({price.provider} {price.region})",
        retrieved_on=price.retrieved_on,
    )


def _offer(pool: Pool, line: PoolPrice) -> Offer:
    return Offer(
        id=OfferId(f"{pool.id}/{line.market}"),
        pool_id=pool.id,
        market=line.market,
        price_usd_per_device_hour=line.usd_per_device_hour,
        source=line.source,
        retrieved_on=line.retrieved_on,
        interruptions_per_hour=line.interruptions_per_hour,
        startup_s=line.startup_s,
        nodes_now=pool.num_nodes,
        nodes_possible=pool.num_nodes,
    )


def _assumed(inventory: Inventory, pool: Pool) -> PoolPrice:
    if inventory.device_type(pool.device_type).kind is DeviceKind.CPU:
        cores = max((len(device.cores) for node in pool.nodes for device in node.devices), default=1)
        price, what = ASSUMED_USD_PER_CORE_HOUR * max(1, cores), f"{ASSUMED_USD_PER_CORE_HOUR} USD per core-hour"
    else:
        price, what = ASSUMED_USD_PER_ACCELERATOR_HOUR, f"{ASSUMED_USD_PER_ACCELERATOR_HOUR} USD per device-hour"
    return PoolPrice(
        pool=pool.id,
        market=Market.ON_DEMAND,
        usd_per_device_hour=price,
        source=f"assumed: {what}; no price file names pool {pool.id}",
        retrieved_on=ASSUMED_ON,
    )
