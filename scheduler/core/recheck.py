"""The exact check of one assignment against the present: a plan is a proposal, and the world may have moved since."""

from __future__ import annotations

from datetime import datetime

from scheduler.core.snapshot import Snapshot
from trimtab.inventory import Device, DeviceState, Inventory
from trimtab.job import DeviceRef
from trimtab.lifecycle import UNIT_ENDS, UNIT_LIVE
from trimtab.plan import Assignment, Plan

_TAKEN = {
    DeviceState.BUSY_ELSEWHERE: "is in use by processes that are not ours",
    DeviceState.DRAINING: "is being drained",
}


def find_device(inventory: Inventory, ref: DeviceRef) -> Device | None:
    """The device of the inventory that ``ref`` names."""
    for pool in inventory.pools:
        if pool.id != ref.pool_id:
            continue
        for node in pool.nodes:
            if node.id == ref.node_id:
                return next((device for device in node.devices if device.index == ref.index), None)
    return None


def recheck(snapshot: Snapshot, inventory: Inventory, *, plan: Plan, assignment: Assignment, now: datetime) -> str | None:
    """Why the assignment does not hold any more, as a sentence; None where it holds."""
    if plan.expires_at <= now:
        return f"the plan expired at {plan.expires_at.isoformat()}"
    candidate, devices = assignment.candidate, assignment.placement.devices
    if not devices:
        return "the assignment has no devices"
    if len({device.key() for device in devices}) != len(devices):
        return "the assignment names a device twice"
    if candidate.strategy is not None and candidate.strategy.world_size != len(devices):
        return f"strategy {candidate.strategy.label()} needs {candidate.strategy.world_size} devices, {len(devices)} are placed"
    if all(offer.id != candidate.offer_id or offer.pool_id != candidate.pool_id for offer in inventory.offers):
        return f"offer {candidate.offer_id} is not in the inventory"
    return _devices_refused(snapshot, inventory, plan, assignment, now=now)


def _devices_refused(
    snapshot: Snapshot, inventory: Inventory, plan: Plan, assignment: Assignment, *, now: datetime
) -> str | None:
    for ref in assignment.placement.devices:
        owner = snapshot.owner(ref.key())
        if owner is not None:
            return f"device {ref.key()} belongs to {owner}"
        device = find_device(inventory, ref)
        if device is None:
            return f"device {ref.key()} is not in the inventory"
        if ref.pool_id != assignment.candidate.pool_id:
            return f"device {ref.key()} is not of pool {assignment.candidate.pool_id}"
        if device.state in _TAKEN:
            return f"device {ref.key()} {_TAKEN[device.state]}{f' ({device.used_by})' if device.used_by else ''}"
    return reserved_for_another(snapshot, plan, assignment, now=now)


def reserved_for_another(snapshot: Snapshot, plan: Plan | None, assignment: Assignment, *, now: datetime) -> str | None:
    """Which device is kept by ``plan`` for another unit that still waits, as a sentence."""
    keys = {device.key() for device in assignment.placement.devices}
    for reservation in plan.reservations if plan is not None else ():
        if reservation.until <= now or reservation.unit_id == assignment.unit_id:
            continue
        holder = snapshot.unit(reservation.unit_id)
        if holder is None or holder.state in UNIT_ENDS or holder.state in UNIT_LIVE:
            continue
        kept = sorted(keys.intersection(device.key() for device in reservation.devices))
        if kept:
            return f"device {kept[0]} is kept for {reservation.unit_id} until {reservation.until.isoformat()}"
    return None
