"""The price file: what it says, what is assumed without it, and what is wrong in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scheduler.adapters.prices.file import ASSUMED_USD_PER_CORE_HOUR, FilePrices, parse_prices
from tests.support.kit import START, inventory
from trimtab.errors import SpecError
from trimtab.inventory import Market

GOOD = """\
prices:
  - pool: pool-*
    market: spot
    usd_per_device_hour: 0.5
    source: https://example.org
    retrieved_on: 2026-01-05
    interruptions_per_hour: 0.01
    startup_s: 90
  - {pool: pool-a, market: on-demand, usd_per_device_hour: 2, source: me, retrieved_on: "2026-01-06"}
  - {pool: pool-a, market: spot, usd_per_device_hour: 9, source: later, retrieved_on: 2026-01-06}
  - {pool: other, market: reserved, usd_per_device_hour: 1, source: me, retrieved_on: 2026-01-06}
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prices: [", ["not YAML"]),
        ("", ["expected one key", "allowed: prices"]),
        ("price: []", ["expected one key"]),
        ("prices:\n  - 3\n", [":2:", "expected a mapping, found int"]),
        (GOOD.replace("spot\n", "spott\n"), ["prices[0].market", "did you mean spot?", "reserved, on-demand, spot"]),
        (GOOD.replace("startup_s", "startup"), ["prices[0].startup", "unknown key", "did you mean startup_s?"]),
        (GOOD.replace("0.5", "-1"), ["prices[0].usd_per_device_hour", "at least 0, found -1"]),
        (GOOD.replace("0.5", ".nan"), ["expected a number of at least 0, found nan"]),
        (GOOD.replace("0.5", "true"), ["expected a number of at least 0, found True"]),
        (GOOD.replace('"2026-01-06"', "soon"), ["prices[1].retrieved_on", "expected a date", ":9:"]),
        (GOOD.replace("    source: https://example.org\n", ""), ["prices[0].source: missing"]),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_prices(text, source="prices.yaml")
    for word in words:
        assert word in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse_prices("prices:\n  - {pool: 3, market: x}\n  - {}\n", source="p")
    assert len(caught.value.problems) == 2 + 3 + 5
