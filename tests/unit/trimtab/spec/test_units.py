"""Quantities as people write them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trimtab.spec import units


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        (units.duration_s, "90s", 90.0),
        (units.duration_s, "1h30m", 5400.0),
        (units.duration_s, "2d", 172800.0),
        (units.duration_s, "10us", 1e-5),
        (units.duration_s, "1.5 h", 5400.0),
        (units.count, 300, 300),
        (units.count, "15B", 15_000_000_000),
        (units.count, "1.5M", 1_500_000),
        (units.count, "20k", 20_000),
        (units.count, "1_000", 1000),
        (units.size_bytes, "80GiB", 80 * 2**30),
        (units.size_bytes, "4MB", 4_000_000),
        (units.bandwidth_bytes_per_s, "50 GB/s", 5e10),
        (units.bandwidth_bytes_per_s, "400 Gbit/s", 5e10),
        (units.usd, "$6.88", 6.88),
        (units.usd, 900, 900.0),
        (units.fraction, "5%", 0.05),
        (units.fraction, 0.25, 0.25),
        (units.number, "1e-3", 0.001),
    ],
)
def test_read(reader: Callable[[object], float], text: object, value: float) -> None:
    assert reader(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (units.duration_s, 30),
        (units.duration_s, "30"),
        (units.duration_s, "1 fortnight"),
        (units.duration_s, "-5s"),
        (units.count, 1.5),
        (units.count, "1.5"),
        (units.count, True),
        (units.count, "12 apples"),
        (units.size_bytes, 512),
        (units.size_bytes, "80 G"),
        (units.bandwidth_bytes_per_s, "50 GB"),
        (units.bandwidth_bytes_per_s, "fast/s"),
        (units.usd, "EUR 5"),
        (units.fraction, "half"),
        (units.number, float("nan")),
        (units.number, "inf"),
        (units.number, None),
    ],
)
def test_refuse(reader: Callable[[object], float], text: object) -> None:
    with pytest.raises(ValueError, match=r"number|unit|dollars|fraction"):
        reader(text)
