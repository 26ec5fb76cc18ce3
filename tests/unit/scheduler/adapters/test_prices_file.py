"""The price file: what it says, what is assumed without it, and what is wrong in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scheduler.adapters.prices.file import ASSUMED_USD_PER_CORE_HOUR, FilePrices
from tests.support.kit import START, inventory
from trimtab.errors import SpecError
from trimtab.inventory import Market

GOOD = """\
prices:
  - pool: pool-*
    market: spot
    usd_per_device_hour: 0.5
    source: https://example.org
    date: 2026-01-05
    interruptions_per_hour: 0.01
    startup_s: 90
  - {pool: pool-a, market: on-demand, usd_per_device_hour: 2, source: me, date: "2026-01-06"}
  - {pool: pool-a, market: spot, usd_per_device_hour: 9, source: later, date: 2026-01-06}
  - {pool: other, market: reserved, usd_per_device_hour: 1, source: me, date: 2026-01-06}
"""


def test_the_first_line_that_fits_a_pool_and_market_counts(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(GOOD)
    spot, on_demand = FilePrices(path).offers(START, inventory(4))
    assert (spot.id, spot.market, spot.price_usd_per_device_hour) == ("pool-a/spot", Market.SPOT, 0.5)
    assert (spot.source, spot.retrieved_on) == ("https://example.org", "2026-01-05")
    assert (spot.interruptions_per_hour, spot.startup_s, spot.nodes_now) == (0.01, 90.0, 1)
    assert (on_demand.id, on_demand.price_usd_per_device_hour) == ("pool-a/on-demand", 2.0)


@pytest.mark.parametrize("path", [None, Path("/nowhere/prices.yaml")])
def test_without_a_file_the_price_is_assumed_and_says_so(path: Path | None) -> None:
    (offer,) = FilePrices(path).offers(START, inventory(4))
    assert offer.price_usd_per_device_hour == 2 * ASSUMED_USD_PER_CORE_HOUR
    assert offer.source.startswith("assumed: ")
    assert "pool-a" in offer.source


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(GOOD)
    prices = FilePrices(path)
    assert len(prices.offers(START, inventory())) == 2
    path.write_text(GOOD.replace("0.5", "0.75"))
    os.utime(path, ns=(1, 1))
    assert prices.offers(START, inventory())[0].price_usd_per_device_hour == 0.75
    path.unlink()
    assert prices.offers(START, inventory())[0].source.startswith("assumed")


def test_a_price_of_a_device_type_serves_its_pools_behind_the_price_of_a_pool(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    where = inventory(4)
    kind = where.pools[0].device_type
    place = "provider: acme, region: eu-1, source: their page, date: 2026-01-06"
    path.write_text(
        f"prices:\n  - {{device: {kind}, market: spot, usd_per_device_hour: 0.3, {place}}}\n"
        f"  - {{device: {kind}, market: on-demand, usd_per_device_hour: 0.9, {place}}}\n"
        "  - {pool: pool-a, market: on-demand, usd_per_device_hour: 2, source: me, date: 2026-01-06}\n"
    )
    found = {offer.market: offer for offer in FilePrices(path).offers(START, where)}
    assert found[Market.ON_DEMAND].price_usd_per_device_hour == 2.0
    assert found[Market.SPOT].price_usd_per_device_hour == 0.3
    assert found[Market.SPOT].source == "their page (acme eu-1)"
    assert found[Market.SPOT].retrieved_on == "2026-01-06"


def test_a_broken_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(GOOD.replace("spot\n", "spott\n"))
    with pytest.raises(SpecError, match=r"prices.yaml:3:13: prices\[0\].market: found 'spott'.*did you mean 'spot'"):
        FilePrices(path).offers(START, inventory())
