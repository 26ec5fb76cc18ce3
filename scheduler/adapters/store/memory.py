"""The store in memory: the oracle that the others are compared with. It forgets all when the process ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scheduler.adapters.store.checks import CHAIN_START, canonical, chain, check_arguments, event_text
from scheduler.ports import (
    Applied,
    ApplyResult,
    Change,
    Conflict,
    EventDraft,
    Guard,
    Lease,
    Record,
    RecordKind,
    StaleTerm,
    StoredEvent,
    StoreSnapshot,
)
from trimtab import wire
from trimtab.errors import StoreError


@dataclass(slots=True)
class _Holder:
    name: str = ""
    term: int = 0
    expires_at: float = 0.0


class MemoryStore:
    """StateStore over dictionaries. ``now`` gives store time in seconds. Values pass through JSON, as in any other store."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.RLock()
        self._rows: dict[tuple[RecordKind, str], Record] = {}
        self._events: list[StoredEvent] = []
        self._hashes: list[str] = []
        self._ops: dict[str, int] = {}
        self._holder = _Holder()
        self._closed = False

    def apply(
        self, *, op_id: str, term: int, guards: Sequence[Guard], changes: Sequence[Change], events: Sequence[EventDraft]
    ) -> ApplyResult:
        """See the port."""
        check_arguments(op_id=op_id, term=term, guards=guards, changes=changes)
        values = [None if change.value is None else json.loads(canonical(change.value)) for change in changes]
        texts = [event_text(draft) for draft in events]
        with self._lock:
            self._check_open()
            if op_id in self._ops:
                return Applied(last_event=self._ops[op_id], repeated=True)
            if 0 < term < self._holder.term:
                return StaleTerm(current=self._holder.term)
            wrong = tuple((g.kind, g.id, self._version(g.kind, g.id)) for g in guards if self._version(g.kind, g.id) != g.version)
            if wrong:
                return Conflict(rows=wrong)
            for change, value in zip(changes, values, strict=True):
                self._change(change, value)
            for text in texts:
                number = len(self._events) + 1
                self._events.append(StoredEvent(number=number, draft=wire.loads(EventDraft, text)))
                self._hashes.append(chain(self._hashes[-1] if self._hashes else CHAIN_START, number, text))
            self._ops[op_id] = len(self._events)
            return Applied(last_event=len(self._events))

    def _version(self, kind: RecordKind, record_id: str) -> int:
        row = self._rows.get((kind, record_id))
        return 0 if row is None else row.version

    def _change(self, change: Change, value: dict[str, object] | None) -> None:
        key = (change.kind, change.id)
        if value is None:
            self._rows.pop(key, None)
        else:
            version = self._version(*key) + 1
            self._rows[key] = Record(kind=change.kind, id=change.id, version=version, value=value)

    def get(self, kind: RecordKind, record_id: str) -> Record | None:
        """See the port."""
        with self._lock:
            self._check_open()
            return self._rows.get((kind, record_id))

    def scan(self, kind: RecordKind, *, after: str = "", limit: int = 1000) -> Sequence[Record]:
        """See the port."""
        with self._lock:
            self._check_open()
            found = sorted((row for (k, i), row in self._rows.items() if k is kind and i > after), key=lambda row: row.id)
            return tuple(found[: max(0, limit)])

    def snapshot(self, kinds: Sequence[RecordKind]) -> StoreSnapshot:
        """See the port."""
        with self._lock:
            self._check_open()
            wanted = frozenset(kinds)
            rows = sorted((row for row in self._rows.values() if row.kind in wanted), key=lambda row: (row.kind, row.id))
            return StoreSnapshot(records=tuple(rows), last_event=len(self._events))

    def events_after(self, number: int, *, limit: int = 1000) -> Sequence[StoredEvent]:
        """See the port."""
        with self._lock:
            self._check_open()
            start = max(0, number)
            return tuple(self._events[start : start + max(0, limit)])

    def chain_head(self) -> str:
        """Hash of the newest event."""
        with self._lock:
            return self._hashes[-1] if self._hashes else CHAIN_START

    def acquire_lease(self, holder: str, duration_s: float) -> Lease | None:
        """See the port."""
        with self._lock:
            self._check_open()
            held = self._holder
            live = held.expires_at > self._now()
            if live and held.name != holder:
                return None
            if not (live and held.name == holder):
                held.term += 1
            held.name, held.expires_at = holder, self._now() + duration_s
            return Lease(holder=holder, term=held.term)

    def renew_lease(self, lease: Lease, duration_s: float) -> bool:
        """See the port."""
        with self._lock:
            self._check_open()
            held = self._holder
            if held.name != lease.holder or held.term != lease.term or held.expires_at <= self._now():
                return False
            held.expires_at = self._now() + duration_s
            return True

    def release_lease(self, lease: Lease) -> None:
        """See the port."""
        with self._lock:
            self._check_open()
            if self._holder.name == lease.holder and self._holder.term == lease.term:
                self._holder.name, self._holder.expires_at = "", 0.0

    def close(self) -> None:
        """See the port."""
        with self._lock:
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")
