"""The price file: what it says, and what is wrong in it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from scheduler.adapters.documents.tree import read_text
from trimtab.errors import Problem, SpecError
from trimtab.inventory import Market
from trimtab.spec import OwnPrices, parse_prices

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
GOOD = """\
prices:
  - {pool: local-*, market: spot, usd_per_device_hour: 0.5, source: me, date: 2026-01-05, startup_s: 90}
  - device: h100
    provider: acme
    region: eu-1
    market: on-demand
    usd_per_device_hour: $1.95
    source: https://example.org/prices
    date: "2026-11-20"
"""
OF_DEVICE = GOOD[GOOD.index("  - device") :]


def resolve(name: str) -> str:
    if name.lower() != "h100":
        raise SpecError([Problem(path="device", message=f"unknown device type '{name}'", allowed="H100", nearest="'H100'")])
    return "H100-SXM5-80GB"


def parse(text: str) -> OwnPrices:
    tree, marks = read_text(text)
    return parse_prices(tree, marks, resolve=resolve, source="prices.yaml", now=NOW)


def test_prices_of_pools_and_of_device_types() -> None:
    found = parse(GOOD)
    (pool,) = found.pools
    assert (pool.pool, pool.market, pool.usd_per_device_hour, pool.startup_s) == ("local-*", Market.SPOT, 0.5, 90.0)
    assert (pool.interruptions_per_hour, pool.retrieved_on) == (0.0, "2026-01-05")
    (price,) = found.devices
    assert (price.device_type, price.provider, price.region) == ("H100-SXM5-80GB", "acme", "eu-1")
    assert (price.usd_per_device_hour, price.retrieved_on) == (Decimal("1.95"), "2026-11-20")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("prices:", "price:", ["price: unknown key", "did you mean 'prices'?"]),
        (
            "device: h100",
            "device: h10",
            ["prices.yaml:3:13: prices[1].device: unknown device", "did you mean 'H100'?"],
        ),
        ("    region: eu-1\n", "", ["prices[1].region: missing", "names its provider and region"]),
        ("market: on-demand", "market: on demand", ["prices.yaml:6:13", "found 'on demand'", "did you mean 'on-demand'?"]),
        ("$1.95", "-1", ["prices[1].usd_per_device_hour", "at least 0"]),
        ("$1.95", ".nan", ["prices[1].usd_per_device_hour", "an amount in US dollars"]),
        ('"2026-11-20"', "2026-11-27", ["prices.yaml:9:11: prices[1].date: 2026-11-27 is yet to come", "at most 2026-11-26"]),
        ('"2026-11-20"', "2026-02-30", ["prices[1].date: found '2026-02-30'", "a date such as"]),
        ("startup_s", "startup", ["prices[0].startup: unknown key", "did you mean 'startup_s'?"]),
        ("pool: local-*, ", "", ["prices[0]: found neither pool nor device"]),
        ("device: h100", "device: h100\n    pool: x", ["prices[1]: found both pool and device"]),
        ("device: h100", "pool: x", ["prices[1].provider: stands beside pool"]),
        ("source: me, ", "", ["prices[0].source: missing"]),
        (
            GOOD[GOOD.index("  - device") :],
            GOOD[GOOD.index("  - device") :] * 2,
            ["prices[2]: H100-SXM5-80GB acme eu-1 on-demand is there"],
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(old: str, new: str, expected: list[str]) -> None:
    assert old in GOOD
    with pytest.raises(SpecError) as caught:
        parse(GOOD.replace(old, new, 1))
    for part in expected:
        assert part in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse("prices:\n  - {pool: 3, market: x}\n  - {}\n")
    assert len(caught.value.problems) == 2 + 3 + 4
