"""The store's rows held as a snapshot in memory, and the one way to change them.

A write goes to the store first; only what the store applied enters the mirror, in the order of event numbers. Where anything else
wrote to the store, or an outcome was unknown, the mirror is read anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from scheduler.core.snapshot import SNAPSHOT_KINDS, Row, Snapshot, Write
from scheduler.ports import Applied, ApplyResult, RecordKind, StateStore
from trimtab.errors import UnknownOutcome

_KEEPS_VERSIONS = (RecordKind.JOB, RecordKind.UNIT, RecordKind.ATTEMPT)  # never deleted, so a version names one value
_MAX_TRIES = 5
_OTHERS_WITHIN_S = 1.0


class Mirror:
    """Thread-safe. ``on_change`` is called after each change, without the lock."""

    def __init__(self, store: StateStore, *, random_bytes: Callable[[int], bytes], on_change: Callable[[], None]) -> None:
        self._store = store
        self._random_bytes = random_bytes
        self._on_change = on_change
        self._changed = threading.Condition()
        self._snapshot = Snapshot()
        self._waiting: dict[int, tuple[Write, int]] = {}
        self._num_in_flight = 0
        self._doubtful = False

    @property
    def snapshot(self) -> Snapshot:
        """The newest complete view. Frozen: safe to keep and read without a lock."""
        return self._snapshot

    def reload(self) -> Snapshot:
        """Read everything from the store."""
        with self._changed:
            self._reload()
            return self._snapshot

    def settle(self) -> Snapshot:
        """The newest view, read anew if a write failed in a way that leaves its effect in doubt."""
        if self._doubtful:
            self._doubtful = False
            return self.reload()
        return self._snapshot

    def commit(self, write: Write, *, term: int = 0, op_id: str = "") -> ApplyResult:
        """Write to the store and, once applied, to the mirror. Repeats a write of unknown outcome under the same op id.

        Raises StoreError (UnknownOutcome after the last try).
        """
        op_id = op_id or self._random_bytes(16).hex()
        with self._changed:
            self._num_in_flight += 1
        try:
            result = self._apply(write, op_id, term)
        except BaseException:
            self._doubtful = True
            raise
        finally:
            with self._changed:
                self._num_in_flight -= 1
        if isinstance(result, Applied):
            self._absorb(write, result)
            self._on_change()
        else:
            self.reload()
        return result

    def _apply(self, write: Write, op_id: str, term: int) -> ApplyResult:
        changes = write.changes()
        for tries in range(1, _MAX_TRIES + 1):
            try:
                return self._store.apply(op_id=op_id, term=term, guards=write.guards, changes=changes, events=write.events)
            except UnknownOutcome:
                if tries == _MAX_TRIES:
                    raise
        raise AssertionError("unreachable")

    def _absorb(self, write: Write, applied: Applied) -> None:
        last = applied.last_event
        with self._changed:
            if last <= self._snapshot.last_event:
                return
            self._waiting[last - len(write.events) + 1] = (write, last)
            self._drain()
            if self._snapshot.last_event < last and self._num_in_flight:
                self._changed.wait_for(lambda: self._snapshot.last_event >= last, timeout=_OTHERS_WITHIN_S)
            if self._snapshot.last_event < last:
                self._reload()

    def _drain(self) -> None:
        snapshot = self._snapshot
        while (snapshot.last_event + 1) in self._waiting:
            write, last = self._waiting.pop(snapshot.last_event + 1)
            snapshot = snapshot.after(write, last_event=last)
        self._snapshot = snapshot
        self._changed.notify_all()

    def _reload(self) -> None:
        stored = self._store.snapshot(SNAPSHOT_KINDS)
        known = self._snapshot
        unchanged = {
            (record.kind, record.id): row
            for record in stored.records
            if record.kind in _KEEPS_VERSIONS
            and (row := known.of_kind(record.kind).get(record.id)) is not None
            and row.version == record.version
        }
        fresh = [record for record in stored.records if (record.kind, record.id) not in unchanged]
        snapshot = Snapshot.from_records(fresh, last_event=stored.last_event)
        rows = {kind: dict(snapshot.of_kind(kind)) for kind in SNAPSHOT_KINDS}
        for (kind, row_id), row in unchanged.items():
            rows[kind][row_id] = Row(row.version, row.value)
        self._snapshot = Snapshot(rows=rows, unreadable=snapshot.unreadable, last_event=stored.last_event)
        self._waiting = {first: held for first, held in self._waiting.items() if held[1] > stored.last_event}
        self._drain()
