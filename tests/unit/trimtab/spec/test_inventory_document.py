"""The inventory file."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from scheduler.entrypoints.documents import read_text
from trimtab.errors import SpecError
from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, Inventory, Link, Market, Storage
from trimtab.prices import Price, PriceBook
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


def price(provider: str, region: str, usd: str) -> Price:
    return Price(
        device_type=DeviceTypeName("H100-SXM"),
        provider=provider,
        region=region,
        offering="",
        market=Market.ON_DEMAND,
        usd_per_device_hour=Decimal(usd),
        source=f"list of {provider}",
        retrieved_on="2026-11-01",
    )


BOOK = PriceBook(own=(price("acme", "eu-1", "3.5"),), bundled=(price("acme", "eu-1", "2"), price("other", "us", "1.5")))
UNPRICED = '{market: on-demand, price_per_device_hour: $6.88, source: list, date: "2026-07-20"}'


@pytest.mark.parametrize(
    ("asked", "usd", "source"),
    [
        ("{market: on-demand}", 3.5, "list of acme (acme eu-1)"),
        ("{market: on-demand, provider: acme, region: eu-1}", 3.5, "list of acme (acme eu-1)"),
        ("{market: on-demand, provider: other}", 1.5, "list of other (other us)"),
    ],
)
def test_an_offer_without_a_price_takes_a_known_one_the_own_first(asked: str, usd: float, source: str) -> None:
    tree, marks = read_text(GOOD.replace(UNPRICED, asked))
    found = parse_inventory(tree, marks, catalogue=CATALOGUE, prices=BOOK, source="inventory.yaml", now=NOW).offers[0]
    assert (found.price_usd_per_device_hour, found.source, found.retrieved_on) == (usd, source, "2026-11-01")


def test_a_price_that_is_not_known_lists_those_that_are() -> None:
    tree, marks = read_text(GOOD.replace(UNPRICED, "{market: on-demand, provider: nobody}"))
    with pytest.raises(SpecError, match="known for H100-SXM: acme eu-1 on-demand, other us on-demand"):
        parse_inventory(tree, marks, catalogue=CATALOGUE, prices=BOOK, source="inventory.yaml", now=NOW)


def test_storage_of_a_pool() -> None:
    stated = "    storage: {network_write: 5 GB/s, host_memory: 2TiB, source: measured with fio, date: 2026-11-02}\n"
    found = parse(GOOD.replace("    nodes: 2\n", stated + "    nodes: 2\n")).pools[0].storage
    assert found == Storage(
        network_write_bytes_per_s=5e9,
        host_memory_bytes=2 * 2**40,
        source="inventory.yaml: measured with fio",
        retrieved_on="2026-11-02",
    )
    assert parse(GOOD).pools[0].storage is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (", source: list", "", ["pools[0].offers[0].source: missing; a price says where and when"]),
        ("price_per_device_hour: $6.88, ", "", ["price_per_device_hour: missing, and no known price of a H100-SXM fits"]),
        ('source: list, date: "2026-07-20"}', "source: list, date: 2026-11-27}", ["offers[0].date: 2026-11-27 is yet to come"]),
        ("nodes: 2", "nodes: 2\n    storage: {network_writes: 5 GB/s}", ["inventory.yaml:7:15", "did you mean 'network_write'?"]),
        ("nodes: 2", "nodes: 2\n    storage: {local_read: 5}", ["pools[0].storage.local_read: found 5", "50 GB/s"]),
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
