"""What ``trimtab check`` finds; here: where device types and prices come from, and how old prices are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler.entrypoints.cli.common import Session
from scheduler.entrypoints.cli.words import plural, usd_text
from trimtab.inventory import Offer
from trimtab.prices import STALE_AFTER_DAYS, Price, age_days, is_stale

if TYPE_CHECKING:
    from scheduler.adapters.devices.own import Change

_SHOWN = 12


class Grade(StrEnum):
    """How good a finding is; BROKEN makes the exit code 1."""

    OK = "ok"
    NOTE = "note"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at, what was found, and what to do about it."""

    what: str
    found: str
    grade: Grade = Grade.OK
    advice: str = ""


def device_findings(session: Session) -> list[Finding]:
    """How many types are known, the user's file of them, and each figure that it states."""
    from scheduler.bootstrap import device_changes, device_entries, device_file

    now = datetime.now(UTC)
    path = device_file(session.settings)
    if path is None:
        advice = f"add yours in {session.settings.home.devices}"
        return [Finding(what="device types", found=f"{len(device_entries(session.settings, now=now))} bundled", advice=advice)]
    changed = device_changes(session.settings, now=now)
    new = {change.device_type for change in changed if change.is_new_type}
    others = {change.device_type for change in changed} - new
    total = len(device_entries(session.settings, now=now))
    found = f"{total}, of them {plural(len(new), 'new one')} and {len(others)} changed by {path}"
    shown = [Finding(what=f"device {change.device_type}", found=_change_text(change, path)) for change in changed[:_SHOWN]]
    if len(changed) > _SHOWN:
        shown.append(Finding(what="device types", found=f"{plural(len(changed) - _SHOWN, 'further figure')} of {path}"))
    return [Finding(what="device types", found=found), *shown]


def price_findings(session: Session) -> list[Finding]:
    """The known prices, the user's among them, and those that are old."""
    from scheduler.bootstrap import price_book, price_file

    now = datetime.now(UTC)
    book, path = price_book(session.settings, now=now), price_file(session.settings)
    days = sorted(price.retrieved_on for price in book.bundled)
    findings = [Finding(what="known prices", found=f"{len(book.bundled)} bundled, of {days[0]} to {days[-1]}")]
    findings += [_own_finding(price, path, now) for price in book.own]
    old = sum(is_stale(price.retrieved_on, now) for price in book.bundled)
    if old:
        advice = f"name newer ones in {path}"
        found = f"{old} of the bundled are more than {STALE_AFTER_DAYS} days old"
        findings.append(Finding(what="known prices", found=found, grade=Grade.NOTE, advice=advice))
    return findings


def offer_finding(offer: Offer, *, price_file: Path, now: datetime) -> Finding:
    """The price of an offer of this machine: where it comes from, and whether it is assumed or old."""
    price = f"{usd_text(offer.price_usd_per_device_hour)} per device-hour ({offer.source}, {offer.retrieved_on})"
    if offer.is_assumed:
        return Finding(what=f"price {offer.id}", found=price, grade=Grade.NOTE, advice=f"name yours in {price_file}")
    if is_stale(offer.retrieved_on, now):
        return Finding(what=f"price {offer.id}", found=price, grade=Grade.NOTE, advice=_age(offer.retrieved_on, now))
    return Finding(what=f"price {offer.id}", found=price)


def _own_finding(price: Price, path: Path, now: datetime) -> Finding:
    place = f"{price.provider} {price.region} {price.market}"
    amount = usd_text(float(price.usd_per_device_hour))
    found = f"{amount} per device-hour, {place} ({path}: {price.source}, {price.retrieved_on})"
    if is_stale(price.retrieved_on, now):
        return Finding(what=f"price {price.device_type}", found=found, grade=Grade.NOTE, advice=_age(price.retrieved_on, now))
    return Finding(what=f"price {price.device_type}", found=found)


def _age(retrieved_on: str, now: datetime) -> str:
    return f"{age_days(retrieved_on, now)} days old: name a newer one"


def _change_text(change: Change, path: Path) -> str:
    before = f" instead of {change.before:g}" if change.before is not None and change.before != change.value else ""
    origin = change.source.removeprefix(f"{path}: ") if change.source != str(path) else path.name
    day = f", {change.retrieved_on}" if change.retrieved_on else ""
    return f"{change.figure} {change.value:g}{before} ({origin}{day})"
