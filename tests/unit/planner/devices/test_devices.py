"""Catalogue, names and prices."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from planner.devices import (
    catalogue,
    device_type,
    entries,
    nearest_name,
    normalised,
    prices,
    prices_of,
)
from trimtab.errors import SpecError
from trimtab.inventory import DeviceType, Market
from trimtab.prices import STALE_AFTER_DAYS, age_days, is_stale
from trimtab.wire import dumps, loads

WANTED = {
    "V100-SXM2-16GB", "V100-SXM2-32GB", "T4-16GB", "A10G-24GB", "L4-24GB", "L40S-48GB", "RTX-4090-24GB", "RTX-5090-32GB",
    "RTX-6000-Ada-48GB", "RTX-3090-24GB", "RTX-2080-Ti-11GB", "Titan-RTX-24GB", "A800-SXM4-80GB",
    "A100-SXM4-40GB", "A100-SXM4-80GB", "A100-PCIe-80GB", "H100-SXM5-80GB", "H100-NVL-94GB",
    "H100-PCIe-80GB", "H200-SXM5-141GB", "GH200-96GB", "B200-SXM-180GB", "B300-SXM-270GB", "GB200-186GB", "GB300-279GB",
    "MI300X-192GB", "MI325X-256GB", "MI355X-288GB", "TPU-v3", "TPU-v4", "TPU-v5e", "TPU-v5p", "TPU-v6e", "TPU-v7x",
}  # fmt: skip


def test_every_device_of_the_list_is_there() -> None:
    assert set(catalogue()) == WANTED


def test_no_spelling_stands_for_two_devices() -> None:
    holders: dict[str, str] = {}
    for name, entry in entries().items():
        for spelling in entry.spellings:
            assert holders.setdefault(normalised(spelling), name) == name, spelling


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("H100", "H100-SXM5-80GB"),
        ("nvidia h100 80gb hbm3", "H100-SXM5-80GB"),
        ("a100-80gb", "A100-SXM4-80GB"),
        ("A100", "A100-SXM4-40GB"),
        ("NVIDIA_A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("tpu-v6e-slice", "TPU-v6e"),
        ("L4", "L4-24GB"),
        ("L40S", "L40S-48GB"),
        ("V100", "V100-SXM2-16GB"),
        ("RTX 4090", "RTX-4090-24GB"),
        ("NVIDIA GeForce RTX 5090", "RTX-5090-32GB"),
        ("rtx 6000 ada", "RTX-6000-Ada-48GB"),
        ("A100 PCIe", "A100-PCIe-80GB"),
        ("H100 NVL", "H100-NVL-94GB"),
        ("H100-PCIe", "H100-PCIe-80GB"),
        ("NVIDIA GH200 480GB", "GH200-96GB"),
        ("B200", "B200-SXM-180GB"),
        ("NVIDIA B300 SXM6 AC", "B300-SXM-270GB"),
        ("GB200", "GB200-186GB"),
        ("GB300-NVL72", "GB300-279GB"),
        ("MI300X", "MI300X-192GB"),
        ("AMD Instinct MI325X", "MI325X-256GB"),
        ("mi355x", "MI355X-288GB"),
        ("tpu-v3", "TPU-v3"),
        ("v5litepod", "TPU-v5e"),
        ("tpu-v5-lite-device", "TPU-v5e"),
        ("TPU7x", "TPU-v7x"),
        ("Ironwood", "TPU-v7x"),
    ],
)
def test_names_are_found_by_their_whole_spelling(asked: str, found: str) -> None:
    assert device_type(asked).name == found


@pytest.mark.parametrize("asked", ["L40", "A10", "H10", "H100-NVL-80GB", "", "RTX-A6000", "RTX-6000", "v5litepod-8", "v4-8"])
def test_a_part_of_a_name_is_no_name(asked: str) -> None:
    with pytest.raises(SpecError) as caught:
        device_type(asked, path="pools[0].device_type")
    problem = caught.value.problems[0]
    assert problem.path == "pools[0].device_type"
    assert "H100-SXM5-80GB" in (problem.allowed or "")


@pytest.mark.parametrize(
    ("asked", "suggested"),
    [("H100 NVLX", "H100-NVL-94GB"), ("GeForce MI300X", "MI300X-192GB"), ("L40SS", "L40S-48GB"), ("zzz", None)],
)
def test_suggestions(asked: str, suggested: str | None) -> None:
    assert nearest_name(asked) == suggested


def test_prices_are_dated_and_name_catalogue_devices() -> None:
    assert len(prices()) >= 75
    assert {price.device_type for price in prices()} <= set(catalogue())
    assert all(date.fromisoformat(price.retrieved_on) for price in prices())
    assert all(0 < price.usd_per_device_hour < 50 for price in prices())
    assert not [p for p in prices() if p.provider in ("aws", "azure") and p.market is Market.SPOT], "none was verified"
    cheapest = prices_of("H100-SXM5-80GB")
    assert [p.usd_per_device_hour for p in cheapest] == sorted(p.usd_per_device_hour for p in cheapest)


def test_age_of_a_price() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    assert age_days("2026-11-23", now) == 1
    assert age_days("", now) is None
    assert not is_stale("2026-08-26", now)
    assert is_stale("2026-08-25", now)
    assert STALE_AFTER_DAYS == 90
    with pytest.raises(ValueError, match="isoformat"):
        age_days("last week", now)


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_device_type_travels_whole(name: str) -> None:
    made = catalogue()[name]
    assert loads(DeviceType, dumps(made)) == made


@pytest.mark.parametrize("name", ["A100-SXM4-80GB", "H100-SXM5-80GB", "B300-SXM-270GB", "TPU-v5e", "TPU-v6e"])
def test_spot_costs_less_than_on_demand_of_the_same_provider_and_region(name: str) -> None:
    asked = {(p.provider, p.region): p.usd_per_device_hour for p in prices_of(name) if p.market is Market.ON_DEMAND}
    spot = [p for p in prices_of(name) if p.market is Market.SPOT and (p.provider, p.region) in asked]
    assert spot
    assert all(p.usd_per_device_hour < asked[p.provider, p.region] for p in spot)


def test_no_price_stands_twice() -> None:
    keys = [(p.device_type, p.provider, p.region, p.offering, p.market) for p in prices()]
    assert len(keys) == len(set(keys))
