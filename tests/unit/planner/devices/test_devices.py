"""Catalogue, names and prices."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from planner.devices import (
    STALE_AFTER_DAYS,
    age_days,
    catalogue,
    device_type,
    entries,
    is_stale,
    nearest_name,
    prices,
    prices_of,
)
from trimtab.errors import SpecError
from trimtab.inventory import DeviceKind, Market

WANTED = {
    "V100-SXM2-16GB", "V100-SXM2-32GB", "T4-16GB", "A10G-24GB", "L4-24GB", "L40S-48GB", "A100-SXM4-40GB", "A100-SXM4-80GB",
    "H100-SXM5-80GB", "H100-PCIe-80GB", "H200-SXM5-141GB", "B200-SXM-180GB", "MI300X-192GB",
    "TPU-v4", "TPU-v5e", "TPU-v5p", "TPU-v6e",
}  # fmt: skip


def test_every_device_of_the_list_is_there_with_plausible_figures() -> None:
    assert set(catalogue()) == WANTED
    for made in catalogue().values():
        assert 8 * 2**30 <= made.memory_bytes <= 512 * 2**30
        assert 1e11 < made.memory_bandwidth_bytes_per_s < 2e13
        assert all(1e12 < peak < 1e16 for peak in made.peak_flops.values())
        assert made.link is not None
        assert made.domain_size >= 1
        assert ("bf16" in made.peak_flops) or made.name.startswith(("V100", "T4"))


def test_every_figure_names_its_source_and_date() -> None:
    for entry in entries().values():
        assert len(entry.figures) >= 6
        for figure in entry.figures:
            assert figure.source
            assert date.fromisoformat(figure.retrieved_on) <= date(2026, 12, 31)


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
    ],
)
def test_names_are_found_by_their_whole_spelling(asked: str, found: str) -> None:
    assert device_type(asked).name == found


@pytest.mark.parametrize("asked", ["L40", "A10", "H10", "H100-NVL", "", "RTX-A6000", "100"])
def test_a_part_of_a_name_is_no_name(asked: str) -> None:
    with pytest.raises(SpecError) as caught:
        device_type(asked, path="pools[0].device_type")
    problem = caught.value.problems[0]
    assert problem.path == "pools[0].device_type"
    assert "H100-SXM5-80GB" in (problem.allowed or "")


@pytest.mark.parametrize(
    ("asked", "suggested"),
    [("H100 NVL", "H100-PCIe-80GB"), ("GeForce MI300X", "MI300X-192GB"), ("L40SS", "L40S-48GB"), ("zzz", None)],
)
def test_suggestions(asked: str, suggested: str | None) -> None:
    assert nearest_name(asked) == suggested


def test_prices_are_dated_and_name_catalogue_devices() -> None:
    assert len(prices()) >= 45
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


def test_kinds() -> None:
    assert {made.kind for made in catalogue().values()} == {DeviceKind.GPU, DeviceKind.TPU}
