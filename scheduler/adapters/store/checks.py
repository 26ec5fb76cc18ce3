"""What every store checks and computes in the same way: arguments, canonical text, the hash chain of events."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from scheduler.ports import Change, EventDraft, Guard
from trimtab import wire
from trimtab.errors import StoreError

CHAIN_START = hashlib.sha256(b"trimtab event log").hexdigest()
MAX_VALUE_BYTES = 64 * 2**20


def check_arguments(*, op_id: str, term: int, guards: Sequence[Guard], changes: Sequence[Change]) -> None:
    """Refuse a malformed write. Raises StoreError; nothing is written."""
    if not op_id:
        raise StoreError("a write needs an op id")
    if term < 0:
        raise StoreError(f"term must not be negative, found {term}")
    rows = [(change.kind, change.id) for change in changes]
    if len(set(rows)) != len(rows):
        raise StoreError("a write changes a row twice")
    if any(not change.id for change in changes) or any(not guard.id for guard in guards):
        raise StoreError("a row needs an id")


def canonical(value: object) -> str:
    """Canonical JSON text of a row value or event. Raises StoreError where it cannot be stored."""
    try:
        text = wire.dumps(value)
    except (TypeError, ValueError) as error:
        raise StoreError(f"a value cannot be stored: {error}") from error
    if len(text) > MAX_VALUE_BYTES:
        raise StoreError(f"a value of {len(text)} bytes is over the limit of {MAX_VALUE_BYTES}")
    return text


def chain(previous: str, number: int, text: str) -> str:
    """Hash of an event: SHA-256 over the hash before, its number and its canonical text."""
    return hashlib.sha256(f"{previous}\n{number}\n{text}".encode()).hexdigest()


def event_text(draft: EventDraft) -> str:
    """Canonical text of an event, all of its fields."""
    return canonical(draft)
