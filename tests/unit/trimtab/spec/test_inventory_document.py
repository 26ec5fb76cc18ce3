"""The inventory file."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from scheduler.entrypoints.documents import read_text
from trimtab.errors import SpecError
from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, Inventory, Link, Market
from trimtab.spec import parse_inventory

NOW = datetime(2026, 11, 24, tzinfo=UTC)
CATALOGUE = {
    "H100-SXM": DeviceType(
        name=DeviceTypeName("H100-SXM"),
        kind=DeviceKind.GPU,
        memory_bytes=80 * 2**30,
        peak_flops={"bf16": 989e12},
        memory_bandwidth_bytes_per_s=3.35e12,
        source="data sheet",
        retrieved_on="2026-11-01",
        link=Link(name="nvlink", bandwidth_bytes_per_s=450e9, latency_s=3e-6),
        domain_size=8,
    )
}
GOOD = """\
device_types:
  - {name: mine, kind: cpu, memory: 8GiB, tflops: {fp32: 0.1}, memory_bandwidth: 10 GB/s, source: me, date: "2026-11-01"}
pools:
  - name: h100
    device_type: H100-SXM
    nodes: 2
    devices_per_node: 8
    network: {bandwidth: 400 Gbit/s, latency: 5us}
    offers:
      - {market: on-demand, price_per_device_hour: $6.88, source: list, date: "2026-07-20"}
      - {market: spot, price_per_device_hour: 2, source: list, date: "2026-07-20", interruptions_per_hour: 0.1, max_nodes: 5}
  - name: here
    device_type: mine
    nodes: 1
    devices_per_node: 2
    offers: [{market: reserved, price_per_device_hour: 0, source: own, date: "2026-07-20"}]
"""


def parse(text: str) -> Inventory:
    tree, marks = read_text(text)
    return parse_inventory(tree, marks, catalogue=CATALOGUE, source="inventory.yaml", now=NOW)


def test_a_good_inventory() -> None:
    inventory = parse(GOOD)
    assert [str(pool.id) for pool in inventory.pools] == ["h100", "here"]
    assert inventory.pools[0].num_devices == 16
    assert inventory.pools[0].network is not None
    assert inventory.pools[0].network.bandwidth_bytes_per_s == pytest.approx(5e10)
    assert inventory.pools[0].node_link == CATALOGUE["H100-SXM"].link
    spot = next(offer for offer in inventory.offers if offer.market is Market.SPOT)
    assert (spot.id, spot.nodes_now, spot.nodes_possible) == ("h100/spot", 2, 5)
    assert inventory.device_type(DeviceTypeName("mine")).peak_flops == {"fp32": 0.1e12}
    assert inventory.observed_at == NOW


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("device_type: H100-SXM", "device_type: H100-SXN", ["inventory.yaml:5:18", "unknown", "did you mean 'H100-SXM'?"]),
        ("name: here", "name: h100", ["pools[1].name: 'h100' is there twice"]),
        ("market: spot", "market: on-demand", ["pools[0].offers[1].market: 'on-demand' is there twice"]),
        ("bandwidth: 400 Gbit/s", "bandwidth: 400", ["pools[0].network.bandwidth", "400 Gbit/s"]),
        ("memory: 8GiB", "memory: 8", ["device_types[0].memory", "80GiB"]),
        ("tflops: {fp32: 0.1}", "tflops: {fp33: 0.1}", ["device_types[0].tflops.fp33", "a precision"]),
        ('date: "2026-07-20"}]', "date: yesterday}]", ["a date such as"]),
        ("nodes: 2", "nodes: -1", ["pools[0].nodes", "at least 0"]),
    ],
)
def test_bad_inventories_say_where_and_what(old: str, new: str, expected: list[str]) -> None:
    assert old in GOOD
    with pytest.raises(SpecError) as caught:
        parse(GOOD.replace(old, new, 1))
    for part in expected:
        assert part in str(caught.value)


def test_an_unquoted_date_is_a_date_too() -> None:
    assert parse(GOOD.replace('"2026-07-20"', "2026-07-20")).offers[0].retrieved_on == "2026-07-20"
