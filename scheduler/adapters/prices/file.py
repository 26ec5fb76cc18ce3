"""Prices from a file of the user's, over the prices that came with the inventory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from trimtab.errors import Problem, SpecError
from trimtab.ids import OfferId
from trimtab.inventory import Inventory, Offer
from trimtab.wire import WireError, decode


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceEntry:
    """One line of the price file; ``source`` and ``retrieved_on`` (ISO date) are printed with every plan."""

    offer: OfferId
    price_usd_per_device_hour: float
    source: str
    retrieved_on: str

    def __post_init__(self) -> None:
        if not 0 <= self.price_usd_per_device_hour < 1e6:
            raise ValueError(f"price_usd_per_device_hour: found {self.price_usd_per_device_hour}, allowed: 0 to 1,000,000")


@dataclass(frozen=True, slots=True, kw_only=True)
class _PriceFile:
    prices: tuple[PriceEntry, ...]


class FilePrices:
    """PriceBook: ``prices.json`` in the state folder wins over what the inventory says; without the file nothing changes.

    ``{"prices": [{"offer": "local-cpu/on-demand", "price_usd_per_device_hour": 0.1, "source": "invoice", "retrieved_on": "2026-11-01"}]}``
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at_ns = -1
        self._prices: Mapping[OfferId, PriceEntry] = {}

    def offers(self, at: datetime, inventory: Inventory) -> Sequence[Offer]:
        """See the port. Raises SpecError for a file that is wrong: a silent default would be a wrong price."""
        self._refresh()
        return [self._priced(offer) for offer in inventory.offers]

    def _priced(self, offer: Offer) -> Offer:
        entry = self._prices.get(offer.id)
        if entry is None:
            return offer
        price = entry.price_usd_per_device_hour
        return replace(offer, price_usd_per_device_hour=price, source=entry.source, retrieved_on=entry.retrieved_on)

    def _refresh(self) -> None:
        try:
            changed_at_ns = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            self._prices, self._read_at_ns = {}, -1
            return
        if changed_at_ns == self._read_at_ns:
            return
        try:
            entries = decode(_PriceFile, json.loads(self._path.read_text()), "").prices
        except (WireError, ValueError) as error:
            raise SpecError([Problem(path="", message=str(error))], source=str(self._path)) from None
        self._prices = {entry.offer: entry for entry in entries}
        self._read_at_ns = changed_at_ns
