"""A job and an inventory after a change. Pure: nothing is looked up but in what is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler.service.whatif.grammar import ChangedField, ChangeKind, WorldChange
from scheduler.service.whatif.nodes import with_device_count, with_node_counts
from trimtab.errors import Problem, SpecError
from trimtab.inventory import DeviceType, Inventory, Link, Offer, Pool
from trimtab.jobspec import JobSpec
from trimtab.model import PositionKind
from trimtab.prices import PriceBook, PriceQuestion
from trimtab.spec.fields import nearest
from trimtab.strategy import Precision
from trimtab.workload import TrainWorkload

_SECONDS_PER_HOUR = 3600.0
_MAX_COUNT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What changes may draw on: device types by every spelling of their names, and prices."""

    catalogue: Mapping[str, DeviceType]
    prices: PriceBook


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a plan is made for. ``num_devices`` is what the plan without changes uses: ``devices+8`` counts from there."""

    spec: JobSpec
    inventory: Inventory
    num_devices: int


def changed(world: World, changes: Sequence[WorldChange], known: Knowledge) -> World:
    """The world after all changes of a question. Raises SpecError naming the change that cannot be made."""
    has_price = any(change.field is ChangedField.PRICE and change.kind is ChangeKind.SET for change in changes)
    for change in changes:
        if change.field is ChangedField.TYPE:
            world = _typed(world, change, known, has_price=has_price)
        else:
            world = _STEPS[change.field](world, change)
    return world


# ---------------------------------------------------------------------------------------------------------- the inventory


def _typed(world: World, change: WorldChange, known: Knowledge, *, has_price: bool) -> World:
    """The job on devices of that type: on pools that have it, or, where there are none, on the same nodes with such devices."""
    wanted = _device_type(world.inventory, change, known)
    spec = replace(world.spec, devices=replace(world.spec.devices, types=(str(wanted.name),)))
    if any(pool.device_type == wanted.name for pool in world.inventory.pools):
        return replace(world, spec=spec)
    pools = tuple(_refitted(pool, wanted) for pool in world.inventory.pools)
    offers = [
        offer for old in world.inventory.offers if (offer := _repriced(old, wanted, known, has_price=has_price)) is not None
    ]
    if not offers:
        prices = known.prices.of(wanted.name)
        markets = ", ".join(sorted({price.market.value for price in prices})) or "none"
        allowed = f"a price beside it, such as {change.text},price=2.1 (markets with a known price: {markets})"
        raise _refusal(change, f"no price of a {wanted.name} is known for the offers of the inventory", allowed=allowed)
    types = (*(kind for kind in world.inventory.device_types if kind.name != wanted.name), wanted)
    inventory = replace(world.inventory, pools=pools, offers=tuple(offers), device_types=types)
    return replace(world, spec=spec, inventory=inventory)


def _device_type(inventory: Inventory, change: WorldChange, known: Knowledge) -> DeviceType:
    types = {str(spelling): kind for spelling, kind in known.catalogue.items()}
    types.update({str(kind.name): kind for kind in inventory.device_types})
    folded = {name.lower(): kind for name, kind in types.items()}
    found = types.get(change.word) or folded.get(change.word.lower())
    if found is None:
        names = sorted({str(kind.name) for kind in types.values()})
        raise _refusal(
            change, f"unknown device type '{change.word}'", allowed=", ".join(names), near=nearest(change.word, sorted(types))
        )
    return next((kind for kind in inventory.device_types if kind.name == found.name), found)


def _refitted(pool: Pool, wanted: DeviceType) -> Pool:
    """The pool with other devices in the same nodes, behind the same network."""
    nodes = tuple(
        replace(
            node,
            devices=tuple(
                replace(d, memory_bytes=wanted.memory_bytes, memory_free_bytes=wanted.memory_bytes, uuid="") for d in node.devices
            ),
        )
        for node in pool.nodes
    )
    return replace(pool, device_type=wanted.name, node_link=wanted.link, nodes=nodes)


def _repriced(offer: Offer, wanted: DeviceType, known: Knowledge, *, has_price: bool) -> Offer | None:
    price = known.prices.find(PriceQuestion(device_type=wanted.name, market=offer.market))
    if price is not None:
        return replace(
            offer,
            price_usd_per_device_hour=float(price.usd_per_device_hour),
            source=f"{price.source} ({price.provider} {price.region})",
            retrieved_on=price.retrieved_on,
        )
    return offer if has_price else None


def _with_memory(world: World, change: WorldChange) -> World:
    used = {pool.device_type for pool in world.inventory.pools}
    types = tuple(
        replace(kind, memory_bytes=_whole(change, kind.memory_bytes, allow_rounding=True)) if kind.name in used else kind
        for kind in world.inventory.device_types
    )
    return replace(world, inventory=replace(world.inventory, device_types=types))


def _with_network(world: World, change: WorldChange) -> World:
    inventory = world.inventory
    pools = tuple(_faster(pool, inventory.device_type(pool.device_type).network, change) for pool in inventory.pools)
    if pools == inventory.pools and change.of(1.0) != 1.0:
        raise _refusal(change, "no pool names a network", allowed="network=400 Gbit/s, or a pool with network in the inventory")
    return replace(world, inventory=replace(inventory, pools=pools))


def _faster(pool: Pool, usual: Link | None, change: WorldChange) -> Pool:
    base = pool.network or usual
    if base is None:
        if change.kind is not ChangeKind.SET:
            return pool
        base = Link(name="network", bandwidth_bytes_per_s=change.amount, latency_s=0.0)
    return replace(pool, network=replace(base, bandwidth_bytes_per_s=change.of(base.bandwidth_bytes_per_s)))


def _with_nodes(world: World, change: WorldChange) -> World:
    counts = {pool.id: _whole(change, pool.num_nodes) for pool in world.inventory.pools}
    return replace(world, inventory=with_node_counts(world.inventory, counts))


def _with_price(world: World, change: WorldChange) -> World:
    offers = []
    for offer in world.inventory.offers:
        price = change.of(offer.price_usd_per_device_hour)
        if price < 0.0:
            raise _refusal(
                change,
                f"offer {offer.id} at ${offer.price_usd_per_device_hour:g} would cost ${price:g}",
                allowed="prices of 0 and above",
            )
        if change.kind is ChangeKind.SET:
            day = world.inventory.observed_at.date().isoformat()
            offer = replace(offer, source=f"what if {change.text}", retrieved_on=day)
        else:
            offer = replace(offer, source=f"{offer.source}, {change.text}")
        offers.append(replace(offer, price_usd_per_device_hour=price))
    return replace(world, inventory=replace(world.inventory, offers=tuple(offers)))


# ----------------------------------------------------------------------------------------------------------------- the job


def _with_precision(world: World, change: WorldChange) -> World:
    train = replace(_training(world, change), precision=Precision(change.word))
    return replace(world, spec=replace(world.spec, train=train))


def _with_batch(world: World, change: WorldChange) -> World:
    train = _training(world, change)
    return _same_tokens(world, replace(train, global_batch=_whole(change, train.global_batch)))


def _with_sequence(world: World, change: WorldChange) -> World:
    train, model = _training(world, change), world.spec.model
    length = _whole(change, train.sequence_length)
    if model is not None and model.position is PositionKind.LEARNED and 0 < model.max_positions < length:
        raise _refusal(
            change,
            f"{length} is longer than the model's {model.max_positions} learned positions",
            allowed=f"at most {model.max_positions}",
            near=f"'sequence={model.max_positions}'",
        )
    return _same_tokens(world, replace(train, sequence_length=length))


def _same_tokens(world: World, train: TrainWorkload) -> World:
    """The new workload in as many steps as the run's tokens need, so that runs stay comparable."""
    old = world.spec.train
    assert old is not None
    num_steps = max(1, math.ceil(old.num_steps * old.tokens_per_step / train.tokens_per_step))
    return replace(world, spec=replace(world.spec, train=replace(train, num_steps=num_steps)))


def _with_deadline(world: World, change: WorldChange) -> World:
    hours = world.spec.deadline_hours
    if hours is None and change.kind is not ChangeKind.SET:
        raise _refusal(change, f"job {world.spec.name} has no deadline", allowed="deadline=12h")
    seconds = change.of((hours or 0.0) * _SECONDS_PER_HOUR)
    if seconds <= 0.0:
        raise _refusal(change, "nothing is left of the deadline", allowed="a deadline after the submission")
    return replace(world, spec=replace(world.spec, deadline_hours=seconds / _SECONDS_PER_HOUR))


def _with_devices(world: World, change: WorldChange) -> World:
    """Exactly so many devices; pools that have fewer free ones get more nodes."""
    wanted = _whole(change, world.num_devices)
    devices = replace(world.spec.devices, min_devices=wanted, max_devices=wanted)
    inventory = with_device_count(world.inventory, wanted)
    return World(spec=replace(world.spec, devices=devices), inventory=inventory, num_devices=wanted)


_STEPS: Mapping[ChangedField, Callable[[World, WorldChange], World]] = {
    ChangedField.MEMORY: _with_memory,
    ChangedField.NETWORK: _with_network,
    ChangedField.NODES: _with_nodes,
    ChangedField.PRICE: _with_price,
    ChangedField.PRECISION: _with_precision,
    ChangedField.BATCH: _with_batch,
    ChangedField.SEQUENCE: _with_sequence,
    ChangedField.DEADLINE: _with_deadline,
    ChangedField.DEVICES: _with_devices,
}


def _training(world: World, change: WorldChange) -> TrainWorkload:
    if world.spec.train is None:
        raise _refusal(change, f"job {world.spec.name} is a program of its own", allowed="a job of kind train")
    return world.spec.train


def _whole(change: WorldChange, base: float, *, allow_rounding: bool = False) -> int:
    """The changed count. Raises SpecError where it is none (a fraction, or below 1)."""
    value = change.of(base)
    limit = math.inf if allow_rounding else _MAX_COUNT
    if not 1 <= value <= limit or (not allow_rounding and abs(value - round(value)) > 1e-9 * value):
        raise _refusal(change, f"{base:g} would become {value:g}", allowed=f"a whole number from 1 to {_MAX_COUNT}")
    return round(value)


def _refusal(change: WorldChange, message: str, *, allowed: str, near: str | None = None) -> SpecError:
    return SpecError([Problem(path=f"what-if '{change.text}'", message=message, allowed=allowed, nearest=near)])
