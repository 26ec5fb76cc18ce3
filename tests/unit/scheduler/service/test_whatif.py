"""The words of a what-if question, and the world after it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.devices.catalogue import device_type
from scheduler.service.whatif import ChangedField, ChangeKind, Knowledge, World, changed, parse_changes
from tests.support.planning import CPU_TYPE, GPT2_SMALL, cpu_pool, h100_pool, inventory, llama_spec, offer, train_spec, workload
from tests.support.planning import command_spec as program
from trimtab.errors import SpecError
from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceState, Inventory, Link, Market
from trimtab.prices import Price, PriceBook
from trimtab.strategy import Precision

H200 = device_type("H200")
PRICED = PriceBook(
    bundled=(
        Price(
            device_type=H200.name,
            provider="cloud",
            region="here",
            offering="x",
            market=Market.ON_DEMAND,
            usd_per_device_hour=7,  # type: ignore[arg-type]
            source="price list",
            retrieved_on="2026-11-01",
        ),
    )
)
KNOWN = Knowledge(catalogue={"H200": H200, str(H200.name): H200}, prices=PRICED)
NO_PRICES = Knowledge(catalogue=KNOWN.catalogue, prices=PriceBook())


def world(where: Inventory | None = None, *, num_devices: int = 8) -> World:
    return World(spec=llama_spec(), inventory=where or inventory(h100_pool()), num_devices=num_devices)


def after(text: str, before: World | None = None, known: Knowledge = KNOWN) -> World:
    return changed(before or world(), parse_changes(text), known)


def refusal(text: str, before: World | None = None, known: Knowledge = KNOWN) -> str:
    with pytest.raises(SpecError) as raised:
        after(text, before, known)
    return str(raised.value)


# ------------------------------------------------------------------------------------------------------------------ grammar


@pytest.mark.parametrize(
    ("text", "field", "kind", "amount"),
    [
        ("devices+8", ChangedField.DEVICES, ChangeKind.ADD, 8.0),
        (" devices = 16 ", ChangedField.DEVICES, ChangeKind.SET, 16.0),
        ("devices*2", ChangedField.DEVICES, ChangeKind.TIMES, 2.0),
        ("NODES-1", ChangedField.NODES, ChangeKind.SUBTRACT, 1.0),
        ("price=$2.1", ChangedField.PRICE, ChangeKind.SET, 2.1),
        ("sequence=8k", ChangedField.SEQUENCE, ChangeKind.SET, 8000.0),
        ("deadline=1h30m", ChangedField.DEADLINE, ChangeKind.SET, 5400.0),
        ("network=400 Gbit/s", ChangedField.NETWORK, ChangeKind.SET, 50e9),
        ("memory=1GiB", ChangedField.MEMORY, ChangeKind.SET, 2.0**30),
    ],
)
def test_a_change_is_read_in_base_units(text: str, field: ChangedField, kind: ChangeKind, amount: float) -> None:
    (found,) = parse_changes(text)
    assert (found.field, found.kind, found.amount) == (field, kind, amount)
    assert found.text == text.strip()


def test_changes_of_one_question_come_in_the_order_of_application() -> None:
    assert [change.field.value for change in parse_changes("devices+8,price*2,type=H200")] == ["type", "price", "devices"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("devicez+8", "unknown field 'devicez'; allowed: type, memory, network, nodes"),
        ("devicez+8", "did you mean 'devices'?"),
        ("devices", "did you mean 'devices+8'?"),
        ("", "found nothing"),
        ("devices+8,", "found nothing"),
        ("precision=fp9", "did you mean 'fp8'?"),
        ("precision*2", "found '*' for precision; allowed: =, such as precision=fp8"),
        ("memory+1GiB", "found '+' for memory; allowed: = *"),
        ("memory=80", "a size with its unit"),
        ("deadline=12", "a duration with its unit"),
        ("devices=", "found no value"),
        ("devices+x", "found 'x'; allowed: a whole number"),
        ("price*-1", "found '-1'; allowed: more than 0"),
        ("batch*nan", "a finite number"),
        ("batch*2,batch*3", "batch is changed twice"),
        ("x" * 500, "500 characters"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_allowed(text: str, said: str) -> None:
    assert said in refusal(text)


def test_every_problem_of_a_question_is_said() -> None:
    with pytest.raises(SpecError) as raised:
        parse_changes("devicez+8,precision=fp9")
    assert len(raised.value.problems) == 2


# ---------------------------------------------------------------------------------------------------------------- inventory


def test_devices_are_counted_from_the_plan_and_pools_grow_for_them() -> None:
    found = after("devices+24")  # 8 of 16 are used: 32 are two nodes more than there are
    assert (found.spec.devices.min_devices, found.spec.devices.max_devices) == (32, 32)
    assert found.inventory.pools[0].num_nodes == 4
    assert [o.nodes_now for o in found.inventory.offers] == [4]
    assert found.num_devices == 32


def test_fewer_devices_cut_a_described_pool_to_what_the_gang_needs() -> None:
    found = after("devices=8", world(inventory(h100_pool(num_nodes=100)), num_devices=256))
    assert found.inventory.pools[0].num_nodes == 1
    assert found.inventory.offers[0].nodes_possible == 1


def test_listed_machines_stay_and_get_free_ones_beside_them() -> None:
    busy = cpu_pool(num_nodes=1, per_node=4, states={(0, 0): DeviceState.BUSY_ELSEWHERE})
    found = after("devices=8", World(spec=train_spec(), inventory=inventory(busy), num_devices=2))
    pool = found.inventory.pools[0]
    assert pool.nodes[0] == busy.nodes[0]
    free = [d for node in pool.nodes for d in node.devices if d.state is DeviceState.FREE]
    assert len(free) >= 8
    assert len({node.id for node in pool.nodes}) == len(pool.nodes) == pool.num_nodes == 3


def test_nodes_change_pools_and_offers() -> None:
    found = after("nodes+1").inventory
    assert found.pools[0].num_nodes == 3
    assert found.offers[0].nodes_now == 3
    assert "2 would become 0" in refusal("nodes-2")
    assert "a whole number" in refusal("nodes*1.3")


def test_a_price_says_that_it_is_an_assumption() -> None:
    before = inventory(h100_pool(), offers=(offer(h100_pool(), price=4.0, nodes_possible=2),))
    cheaper = after("price*0.5", world(before)).inventory.offers[0]
    assert (cheaper.price_usd_per_device_hour, cheaper.source) == (2.0, "test, price*0.5")
    fixed = after("price=2.1", world(before)).inventory.offers[0]
    assert (fixed.price_usd_per_device_hour, fixed.source, fixed.retrieved_on) == (2.1, "what if price=2.1", "2026-11-24")
    assert "prices of 0 and above" in refusal("price-5", world(before))


def test_a_type_that_is_there_restricts_the_job() -> None:
    both = inventory(h100_pool(), cpu_pool())
    found = after(f"type={CPU_TYPE.name}", world(both))
    assert found.inventory == both
    assert found.spec.devices.types == ("cpu-test",)


def test_a_type_that_is_not_there_takes_the_place_of_the_devices() -> None:
    found = after("type=h200")
    pool = found.inventory.pools[0]
    assert (pool.device_type, pool.network) == (H200.name, h100_pool().network)
    assert found.inventory.device_type(H200.name).memory_bytes == H200.memory_bytes
    assert found.inventory.offers[0].price_usd_per_device_hour == 7.0
    assert found.spec.devices.types == (str(H200.name),)


def test_a_type_without_a_price_needs_one() -> None:
    assert "no price of a" in refusal("type=H200", known=NO_PRICES)
    assert after("type=H200,price=3", known=NO_PRICES).inventory.offers[0].price_usd_per_device_hour == 3.0
    assert "did you mean 'H200'?" in refusal("type=H2000")


def test_memory_and_network_are_scaled() -> None:
    found = after("memory*2,network*2").inventory
    before = world().inventory
    assert found.device_types[0].memory_bytes == 2 * before.device_types[0].memory_bytes
    assert found.pools[0].network == Link(name="InfiniBand", bandwidth_bytes_per_s=100e9, latency_s=1e-5)


def test_a_network_that_nobody_named_can_be_set_and_not_scaled() -> None:
    alone = World(spec=train_spec(), inventory=inventory(cpu_pool()), num_devices=1)
    assert "no pool names a network" in refusal("network*2", alone)
    network = after("network=8 Gbit/s", alone).inventory.pools[0].network
    assert network is not None
    assert network.bandwidth_bytes_per_s == 1e9


# ---------------------------------------------------------------------------------------------------------------------- job


def test_batch_and_sequence_keep_the_tokens_of_the_run() -> None:
    before = world().spec.train
    assert before is not None
    for text in ("batch*2", "sequence*0.5", "batch=512,sequence=1024", "batch=100"):
        train = after(text).spec.train
        assert train is not None
        tokens, wanted = train.num_steps * train.tokens_per_step, before.num_steps * before.tokens_per_step
        assert wanted <= tokens < wanted + train.tokens_per_step
    assert "256 would become 76.8" in refusal("batch*0.3")


def test_learned_positions_bound_the_sequence() -> None:
    gpt2 = replace(train_spec(), model=GPT2_SMALL, train=workload(sequence_length=512))
    before = World(spec=gpt2, inventory=inventory(h100_pool()), num_devices=1)
    assert "learned positions" in refusal("sequence=2048", before)
    assert after("sequence=1024", before).spec.train.sequence_length == 1024  # type: ignore[union-attr]


def test_precision_and_deadline() -> None:
    found = after("precision=FP8,deadline=12h").spec
    assert found.train is not None
    assert found.train.precision is Precision.FP8
    assert found.deadline_hours == 12.0
    assert "has no deadline" in refusal("deadline+1h")
    later = replace(world(), spec=replace(llama_spec(), deadline_hours=2.0))
    assert after("deadline+1h", later).spec.deadline_hours == 3.0
    assert "nothing is left" in refusal("deadline-2h", later)


def test_a_program_has_no_batch() -> None:
    own = World(spec=program(), inventory=inventory(cpu_pool()), num_devices=1)
    assert "a job of kind train" in refusal("batch*2", own)
    assert after("devices=4", own).spec.devices.max_devices == 4


def test_changes_apply_together_and_leave_the_world_before_alone() -> None:
    before = world()
    found = after("price*0.7,nodes+1,batch*2", before)
    assert found.inventory.pools[0].num_nodes == 3
    assert found.spec.train is not None
    assert found.spec.train.global_batch == 512
    assert before == world()
    assert DeviceTypeName("H100-SXM5-80GB") == found.inventory.pools[0].device_type
