"""What is free, and best fit."""

from __future__ import annotations

from planner.placement import Conflict, Item, Packed, pack, pool_slots
from tests.support.planning import command_spec, cpu_pool, devices, h100_pool, inventory, offer, problem, request
from trimtab.ids import UnitId
from trimtab.inventory import DeviceState, Market, Shape
from trimtab.plan import PlanningProblem


def shape(n: int, k: int) -> Shape:
    return Shape(num_nodes=n, devices_per_node=k)


def item(name: str, n: int, k: int) -> Item:
    return Item(unit_id=UnitId(name), pool_id=cpu_pool().id, shape=shape(n, k))


def world(**states: DeviceState) -> PlanningProblem:
    pool = cpu_pool(num_nodes=3, states={(int(key[1]), int(key[3])): state for key, state in states.items()})
    return problem(where=inventory(pool))


def test_only_free_devices_are_given() -> None:
    made = world(n0i1=DeviceState.BUSY_ELSEWHERE, n1i0=DeviceState.DRAINING, n1i1=DeviceState.ASSIGNED)
    slots = pool_slots(made)[cpu_pool().id]
    assert [node.free for node in slots.nodes] == [(0, 2, 3), (2, 3), (0, 1, 2, 3)]
    assert slots.num_free == 9
    assert slots.nodes_with(3) == 2


def test_devices_of_a_movable_unit_are_free_and_of_a_fixed_one_are_not() -> None:
    states = {(0, i): DeviceState.ASSIGNED for i in range(4)}
    pool = cpu_pool(states=states)
    movable = request(command_spec(), 1, held=devices(pool, (0, 0), (0, 1)))
    fixed = request(command_spec(), 2, held=devices(pool, (0, 2)), fixed=True)
    slots = pool_slots(problem(movable, fixed, where=inventory(pool)))[pool.id]
    assert slots.nodes[0].free == (0, 1)


def test_a_described_pool_has_the_nodes_that_its_offers_name() -> None:
    pool = h100_pool(num_nodes=2)
    made = inventory(pool, offers=(offer(pool), offer(pool, market=Market.SPOT, nodes_now=0, nodes_possible=5)))
    slots = pool_slots(problem(where=made))[pool.id]
    assert [node.node_id for node in slots.nodes] == [f"h100-n{i}" for i in range(5)]
    assert slots.num_free == 40


def test_best_fit_takes_the_fullest_node_that_does() -> None:
    made = world(n1i0=DeviceState.BUSY_ELSEWHERE, n1i1=DeviceState.BUSY_ELSEWHERE)
    packed = pack(pool_slots(made), [item("a", 1, 2)])
    assert isinstance(packed, Packed)
    assert [device.key() for device in packed.devices[UnitId("a")]] == ["local-cpu/local-cpu-1/2", "local-cpu/local-cpu-1/3"]


def test_devices_are_neighbours_and_nodes_come_one_after_another() -> None:
    made = world(n0i1=DeviceState.BUSY_ELSEWHERE)
    packed = pack(pool_slots(made), [item("a", 1, 2), item("b", 2, 4)])
    assert isinstance(packed, Packed)
    assert [device.index for device in packed.devices[UnitId("a")]] == [2, 3]
    assert [device.node_id[-1] for device in packed.devices[UnitId("b")]] == list("11112222")


def test_best_fit_fails_where_the_search_finds_a_packing() -> None:
    # 6 devices free on each of two nodes: largest first puts 3 + 2 on the first and leaves no 2 + 2 + 2.
    pool = cpu_pool(num_nodes=2, per_node=6)
    slots = pool_slots(problem(where=inventory(pool)))
    items = [item(f"u{index}", 1, size) for index, size in enumerate((3, 3, 2, 2, 2))]
    packed = pack(slots, items)
    assert isinstance(packed, Packed)
    taken = [device for group in packed.devices.values() for device in group]
    assert len(set(taken)) == 12


def test_a_conflict_is_proven_and_names_its_units() -> None:
    slots = pool_slots(problem(where=inventory(cpu_pool(num_nodes=2))))
    conflict = pack(slots, [item("a", 1, 3), item("b", 1, 3), item("c", 1, 2)])
    assert isinstance(conflict, Conflict)
    assert conflict.proven
    assert conflict.unit_ids == ("a", "b", "c")


def test_a_unit_that_stays_keeps_exactly_its_devices() -> None:
    pool = cpu_pool(states={(0, 1): DeviceState.ASSIGNED, (0, 2): DeviceState.ASSIGNED})
    held = devices(pool, (0, 2), (0, 1))
    slots = pool_slots(problem(request(command_spec(), 1, held=held), where=inventory(pool)))
    stays = Item(unit_id=UnitId("job_1.u0"), pool_id=pool.id, shape=shape(1, 2), held=held)
    packed = pack(slots, [item("a", 1, 1), item("b", 1, 1), stays])
    assert isinstance(packed, Packed)
    assert packed.devices[stays.unit_id] == held
    assert isinstance(pack(slots, [item("a", 1, 3), stays]), Conflict)
