"""The embedded store: one SQLite file, one writer thread with group commit, readers on a connection of their own.

WAL with ``synchronous=FULL``: what was acknowledged survives a kill and a power cut. All writes go through one thread; those that
wait at the same time are committed together and answered after the commit.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import apsw

from scheduler.adapters.store.checks import CHAIN_START, canonical, chain, check_arguments, event_text
from scheduler.adapters.store.sqlite_file import create_private, open_reader, open_writer, refuse_unsafe_folder
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
from trimtab.errors import StoreError, UnknownOutcome

_LOG = logging.getLogger("trimtab.store")
_MAX_GROUP = 128
_OPS_KEPT_S = 24 * 3600.0
_PRUNE_EVERY = 5000


@dataclass(frozen=True, slots=True)
class _Work:
    """Something that the writer thread does inside its transaction."""

    act: Callable[[apsw.Connection], Any]
    done: Future[Any]


class SqliteStore:
    """StateStore in the file ``path``. ``now`` gives store time in seconds, by which leases end.

    The caller holds the home's exclusive lock, so whoever led before is gone: opening the file ends its lease, and the next
    leader does not have to wait it out.

    Raises StoreError for a folder that others may write to, a network file system, a file of another schema or a damaged one.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._path = path
        refuse_unsafe_folder(path.parent)
        create_private(path)
        self._writer = open_writer(path)
        self._reader = open_reader(path)
        self._reading = threading.Lock()
        self._asking = threading.Lock()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._broken: str | None = None
        self._closed = False
        self._num_ops = 0
        self._hash = self._last_hash()
        self._writer.execute("UPDATE lease SET holder = '', expires_at = 0")
        self._thread = threading.Thread(target=self._write_loop, name="trimtab-store", daemon=True)
        self._thread.start()

    # ----------------------------------------------------------------------------------------------------------- write

    def apply(
        self, *, op_id: str, term: int, guards: Sequence[Guard], changes: Sequence[Change], events: Sequence[EventDraft]
    ) -> ApplyResult:
        """See the port. A refused write (Conflict, StaleTerm) is not remembered: it had no effect that a repeat could double."""
        check_arguments(op_id=op_id, term=term, guards=guards, changes=changes)
        values = [None if change.value is None else canonical(change.value) for change in changes]
        texts = [event_text(draft) for draft in events]
        writes = list(zip(changes, values, strict=True))
        result: ApplyResult = self._do(lambda db: self._apply(db, op_id, term, guards, writes, texts))
        return result

    def _apply(
        self,
        db: apsw.Connection,
        op_id: str,
        term: int,
        guards: Sequence[Guard],
        changes: Sequence[tuple[Change, str | None]],
        texts: Sequence[str],
    ) -> ApplyResult:
        known = _one(db, "SELECT last_event FROM ops WHERE op_id = ?", (op_id,))
        if known is not None:
            return Applied(last_event=known[0], repeated=True)
        if term > 0:
            current = _one(db, "SELECT term FROM lease", ())
            if current is not None and term < current[0]:
                return StaleTerm(current=current[0])
        found = [(guard, _version(db, guard.kind, guard.id)) for guard in guards]
        wrong = tuple((guard.kind, guard.id, version) for guard, version in found if version != guard.version)
        if wrong:
            return Conflict(rows=wrong)
        for change, value in changes:
            _change(db, change, value)
        last = int(_one(db, "SELECT coalesce(max(number), 0) FROM events", ())[0])
        for text in texts:
            last += 1
            self._hash = chain(self._hash, last, text)
            db.execute("INSERT INTO events(number, hash, draft) VALUES (?, ?, ?)", (last, self._hash, text))
        db.execute("INSERT INTO ops(op_id, last_event, at) VALUES (?, ?, ?)", (op_id, last, self._now()))
        self._num_ops += 1
        if self._num_ops % _PRUNE_EVERY == 1:
            db.execute("DELETE FROM ops WHERE at < ?", (self._now() - _OPS_KEPT_S,))
        return Applied(last_event=last)

    def acquire_lease(self, holder: str, duration_s: float) -> Lease | None:
        """See the port."""

        def act(db: apsw.Connection) -> Lease | None:
            row = _one(db, "SELECT holder, term, expires_at FROM lease", ())
            name, term, expires_at = row if row is not None else ("", 0, 0.0)
            live = expires_at > self._now()
            if live and name != holder:
                return None
            term = term if live else term + 1
            _set_lease(db, holder, term, self._now() + duration_s)
            return Lease(holder=holder, term=term)

        lease: Lease | None = self._do(act)
        return lease

    def renew_lease(self, lease: Lease, duration_s: float) -> bool:
        """See the port."""

        def act(db: apsw.Connection) -> bool:
            row = _one(db, "SELECT holder, term, expires_at FROM lease", ())
            if row is None or (row[0], row[1]) != (lease.holder, lease.term) or row[2] <= self._now():
                return False
            _set_lease(db, lease.holder, lease.term, self._now() + duration_s)
            return True

        return bool(self._do(act))

    def release_lease(self, lease: Lease) -> None:
        """See the port."""
        self._do(
            lambda db: db.execute(
                "UPDATE lease SET holder = '', expires_at = 0 WHERE holder = ? AND term = ?", (lease.holder, lease.term)
            )
        )

    def _do(self, act: Callable[[apsw.Connection], Any]) -> Any:
        work = _Work(act, Future())
        with self._asking:
            self._check_open()
            self._queue.put(work)
        return work.done.result()

    # ------------------------------------------------------------------------------------------------- the writer thread

    def _write_loop(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                break
            group, ended = self._gather(first)
            self._write_group(group)
            if ended:
                break
        self._fail_rest()

    def _gather(self, first: _Work) -> tuple[list[_Work], bool]:
        group = [first]
        while len(group) < _MAX_GROUP:
            try:
                work = self._queue.get_nowait()
            except Empty:
                break
            if work is None:
                return group, True
            group.append(work)
        return group, False

    def _write_group(self, group: Sequence[_Work]) -> None:
        """One transaction for the group. An error before the commit undoes all of it, and each is tried alone. One in the commit
        leaves the outcome unknown, and the file is not trusted any more: whoever opens it next reads what is durable.
        """
        if self._broken is not None:
            _fail(group, StoreError(self._broken))
            return
        hash_before = self._hash
        answers: list[Any] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            answers.extend(work.act(self._writer) for work in group)
        except Exception as error:
            self._hash = hash_before
            self._undo()
            if len(group) > 1:
                for work in group:
                    self._write_group([work])
            else:
                _fail(group, error if isinstance(error, StoreError) else StoreError(f"the write failed: {error}"))
            return
        try:
            self._writer.execute("COMMIT")
        except apsw.Error as error:
            self._broken = f"a commit failed ({type(error).__name__}: {error}); the store must be opened again"
            _LOG.error("%s", self._broken)
            _fail(group, UnknownOutcome(self._broken))
            return
        for work, answer in zip(group, answers, strict=True):
            work.done.set_result(answer)

    def _undo(self) -> None:
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except apsw.Error as error:
            self._broken = f"a rollback failed ({type(error).__name__}: {error}); the store must be opened again"
            _LOG.error("%s", self._broken)

    def _fail_rest(self) -> None:
        while True:
            try:
                work = self._queue.get_nowait()
            except Empty:
                return
            if work is not None:
                _fail([work], StoreError("the store is closed"))

    # ------------------------------------------------------------------------------------------------------------ read

    @contextmanager
    def _read(self) -> Iterator[apsw.Connection]:
        self._check_open()
        with self._reading:
            try:
                yield self._reader
            except apsw.Error as error:
                raise StoreError(f"the store cannot be read: {type(error).__name__}: {error}") from error

    def get(self, kind: RecordKind, record_id: str) -> Record | None:
        """See the port."""
        with self._read() as db:
            row = _one(db, "SELECT id, version, value FROM records WHERE kind = ? AND id = ?", (kind.value, record_id))
        return None if row is None else _record(kind, row)

    def scan(self, kind: RecordKind, *, after: str = "", limit: int = 1000) -> Sequence[Record]:
        """See the port."""
        query = "SELECT id, version, value FROM records WHERE kind = ? AND id > ? ORDER BY id LIMIT ?"
        with self._read() as db:
            rows = db.execute(query, (kind.value, after, max(0, limit))).fetchall()
        return tuple(_record(kind, row) for row in rows)

    def snapshot(self, kinds: Sequence[RecordKind]) -> StoreSnapshot:
        """See the port."""
        wanted = sorted({kind.value for kind in kinds})
        marks = ", ".join("?" * len(wanted))
        query = f"SELECT kind, id, version, value FROM records WHERE kind IN ({marks}) ORDER BY kind, id"  # noqa: S608
        with self._read() as db:
            db.execute("BEGIN")
            try:
                last = int(_one(db, "SELECT coalesce(max(number), 0) FROM events", ())[0])
                rows: list[Any] = db.execute(query, wanted).fetchall()
            finally:
                db.execute("COMMIT")
        return StoreSnapshot(records=tuple(_record(RecordKind(row[0]), row[1:]) for row in rows), last_event=last)

    def events_after(self, number: int, *, limit: int = 1000) -> Sequence[StoredEvent]:
        """See the port."""
        query = "SELECT number, draft FROM events WHERE number > ? ORDER BY number LIMIT ?"
        with self._read() as db:
            rows: list[Any] = db.execute(query, (number, max(0, limit))).fetchall()
        return tuple(StoredEvent(number=row[0], draft=wire.loads(EventDraft, row[1])) for row in rows)

    def chain_head(self) -> str:
        """Hash of the newest event."""
        with self._read() as db:
            row = _one(db, "SELECT hash FROM events ORDER BY number DESC LIMIT 1", ())
        return CHAIN_START if row is None else str(row[0])

    def verify(self) -> None:
        """Check the whole file: pages, indexes, event numbers and the hash chain. Raises StoreError saying what is wrong."""
        with self._read() as db:
            found = db.execute("PRAGMA integrity_check").fetchall()
            if found != [("ok",)]:
                raise StoreError(f"the store is damaged: {found[0][0]}")
            previous, expected = CHAIN_START, 1
            for number, digest, text in db.execute("SELECT number, hash, draft FROM events ORDER BY number"):
                previous = chain(previous, number, text)
                if number != expected or digest != previous:
                    raise StoreError(f"event {number} does not follow from the one before it: the log was changed or torn")
                expected += 1

    def back_up(self, target: Path) -> None:
        """Copy the store to a new file while it is in use."""
        create_private(target)
        copy = apsw.Connection(str(target))
        with self._read() as db, copy.backup("main", db, "main") as backup:
            backup.step()
        copy.close()

    def _last_hash(self) -> str:
        row = _one(self._writer, "SELECT hash FROM events ORDER BY number DESC LIMIT 1", ())
        return CHAIN_START if row is None else str(row[0])

    def close(self) -> None:
        """See the port."""
        with self._asking:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        with self._reading:
            self._reader.close()
        self._writer.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")


def _fail(group: Sequence[_Work], error: Exception) -> None:
    for work in group:
        work.done.set_exception(error)


def _one(db: apsw.Connection, query: str, values: tuple[Any, ...]) -> Any:
    return db.execute(query, values).fetchone()


def _version(db: apsw.Connection, kind: RecordKind, record_id: str) -> int:
    row = _one(db, "SELECT version FROM records WHERE kind = ? AND id = ?", (kind.value, record_id))
    return 0 if row is None else int(row[0])


def _change(db: apsw.Connection, change: Change, value: str | None) -> None:
    if value is None:
        db.execute("DELETE FROM records WHERE kind = ? AND id = ?", (change.kind.value, change.id))
        return
    db.execute(
        "INSERT INTO records(kind, id, version, value) VALUES (?, ?, 1, ?) "
        "ON CONFLICT(kind, id) DO UPDATE SET version = version + 1, value = excluded.value",
        (change.kind.value, change.id, value),
    )


def _set_lease(db: apsw.Connection, holder: str, term: int, expires_at: float) -> None:
    db.execute(
        "INSERT INTO lease(one, holder, term, expires_at) VALUES (1, ?, ?, ?) "
        "ON CONFLICT(one) DO UPDATE SET holder = excluded.holder, term = excluded.term, expires_at = excluded.expires_at",
        (holder, term, expires_at),
    )


def _record(kind: RecordKind, row: Sequence[Any]) -> Record:
    return Record(kind=kind, id=row[0], version=row[1], value=json.loads(row[2]))
