"""What ``trimtab advise`` needs before it asks the planner: the job, one pool of devices, its price, the size of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import scheduler.bootstrap as bootstrap
from scheduler.config import Settings
from scheduler.entrypoints.cli.common import usage
from scheduler.entrypoints.cli.planning import read_inventory
from scheduler.entrypoints.documents import load_job
from trimtab.errors import Problem, SpecError
from trimtab.ids import DeviceTypeName, PoolId
from trimtab.inventory import Inventory, Market, Offer, Pool, ProbeReport
from trimtab.jobspec import JobSpec, Trainer
from trimtab.prices import PriceQuestion
from trimtab.spec import units
from trimtab.workload import DataKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceRequest:
    """The command line. Devices are ``num_devices`` of ``device``, else a pool of ``inventory``, else of this machine."""

    file: Path
    inventory: Path | None = None
    pool: str | None = None
    device: str | None = None
    num_devices: int | None = None
    framework: Trainer | None = None
    data_tokens: str | None = None
    noise_samples: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the planner is asked; ``others`` are pools of the inventory that it is not asked about."""

    order: bootstrap.AdviceOrder
    others: tuple[PoolId, ...] = ()


def asked_for(settings: Settings, request: AdviceRequest) -> Asked:
    """The order of a command line. Raises SpecError or CommandError for what does not name a job and devices."""
    now = datetime.now(UTC)
    spec = load_job(request.file)
    if spec.train is None:
        raise SpecError([Problem(path="kind", message=f"{spec.kind} has no batches", allowed="train")], source=str(request.file))
    if request.framework is not None:
        spec = replace(spec, framework=request.framework)
    asked = _named(settings, request, spec, now) if request.device is not None else _pooled(settings, request, spec, now)
    order = replace(asked.order, data_samples=_data_samples(request, spec), noise_samples=request.noise_samples)
    return replace(asked, order=order)


def _named(settings: Settings, request: AdviceRequest, spec: JobSpec, now: datetime) -> Asked:
    """So many devices of a type of the catalogue, at its price on demand."""
    if request.inventory is not None or request.pool is not None:
        raise usage("--device names devices of the catalogue: leave out --inventory and --pool")
    if request.num_devices is None:
        raise usage("--device needs --devices N: how many of them")
    device = bootstrap.named_device(settings, request.device or "", now=now)
    per_node = min(request.num_devices, device.devices_per_node or 8)
    nodes, rest = divmod(request.num_devices, per_node)
    if rest:
        raise usage(f"--devices {request.num_devices} is no whole number of nodes of {per_node} {device.name}")
    pool = Pool(id=PoolId("catalogue"), device_type=device.name, devices_per_node=per_node, num_nodes=nodes)
    book = bootstrap.price_book(settings, now=now)
    price = book.find(PriceQuestion(device_type=str(device.name), market=Market.ON_DEMAND))
    order = bootstrap.AdviceOrder(
        spec=spec,
        device_type=device,
        pool=pool,
        num_devices=request.num_devices,
        exactly=True,
        usd_per_device_hour=float(price.usd_per_device_hour) if price else None,
        price_source=f"{price.provider} {price.region} {price.market}, {price.retrieved_on}" if price else "",
    )
    return Asked(order=order)


def _pooled(settings: Settings, request: AdviceRequest, spec: JobSpec, now: datetime) -> Asked:
    """A pool of the inventory file, or of this machine with what a probe measured here."""
    if request.num_devices is not None:
        raise usage("--devices N needs --device TYPE; with an inventory the job file's devices: says how many")
    if request.inventory is not None:
        inventory, probes = read_inventory(settings, request.inventory, now=now), tuple[ProbeReport, ...]()
    else:
        inventory, probes = bootstrap.local_inventory(settings, now=now), bootstrap.local_probes(settings)
    known = bootstrap.device_catalogue(settings, now=now)
    wanted = {known[name].name if name in known else DeviceTypeName(name) for name in spec.devices.types}
    usable = tuple(pool for pool in inventory.pools if pool.num_devices and (not wanted or pool.device_type in wanted))
    pool = _pool(usable, request.pool, inventory)
    offer = _offer(inventory, pool, spec)
    newest = sorted((p for p in probes if p.device_type.name == pool.device_type), key=lambda p: (p.measured_at, p.fingerprint))
    most = min(spec.devices.max_devices or pool.num_devices, pool.num_devices)
    order = bootstrap.AdviceOrder(
        spec=spec,
        device_type=inventory.device_type(pool.device_type),
        pool=pool,
        num_devices=most,
        min_devices=min(spec.devices.min_devices, most),
        usd_per_device_hour=offer.price_usd_per_device_hour if offer else None,
        price_source=f"{offer.source}, {offer.market}" if offer else "",
        probe=newest[-1] if newest else None,
    )
    return Asked(order=order, others=tuple(other.id for other in usable if other.id != pool.id))


def _pool(usable: Sequence[Pool], name: str | None, inventory: Inventory) -> Pool:
    for pool in usable:
        if name in (None, pool.id):
            return pool
    allowed = ", ".join(str(pool.id) for pool in usable)
    if name is None:
        held = ", ".join(sorted({str(pool.device_type) for pool in inventory.pools})) or "no devices"
        problem = Problem(path="devices.types", message="no pool has devices of these types", allowed=held)
    else:
        problem = Problem(path="--pool", message=f"no pool {name!r} with devices that the job takes", allowed=allowed)
    raise SpecError([problem])


def _offer(inventory: Inventory, pool: Pool, spec: JobSpec) -> Offer | None:
    """The cheapest offer of the pool that the job takes, those that nobody interrupts first."""
    offers = [
        o for o in inventory.offers if o.pool_id == pool.id and (not spec.devices.markets or o.market in spec.devices.markets)
    ]
    return min(offers, key=lambda o: (o.market is Market.SPOT, o.price_usd_per_device_hour, o.id), default=None)


def _data_samples(request: AdviceRequest, spec: JobSpec) -> float | None:
    """Samples of the data set: as told, else those of the translation grammar; None where nobody knows."""
    assert spec.train is not None
    if request.data_tokens is not None:
        try:
            return units.count(request.data_tokens) / spec.train.tokens_per_sample
        except (ValueError, TypeError) as error:
            raise SpecError(
                [Problem(path="--data-size", message=f"{request.data_tokens!r} is not {error}", allowed="tokens: 300M, 15B, 1T")]
            ) from error
    data = spec.train.data
    return data.size * (1.0 - data.held_out_frac) if data.kind is DataKind.TRANSLATION else None
