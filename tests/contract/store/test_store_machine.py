"""The same random steps on the oracle and on the SQLite store: answers, rows, events, leases and hashes must be equal.

Steps include repeats under the same op id, stale terms, time passing, and closing and opening the file.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scheduler.adapters.store.memory import MemoryStore
from scheduler.adapters.store.sqlite import SqliteStore
from scheduler.ports import Change, EventDraft, Guard, Lease, RecordKind
from tests.support.long import in_long_form

AT = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = st.sampled_from([RecordKind.JOB, RecordKind.UNIT, RecordKind.DEVICE])
IDS = st.sampled_from(["a", "b", "c", "é"])
ROWS = st.tuples(KINDS, IDS)
LEAVES = st.integers() | st.text(max_size=5) | st.floats(allow_nan=False)
VALUES = st.none() | st.dictionaries(st.sampled_from("xyz"), LEAVES, max_size=3)
HOLDERS = st.sampled_from(["one", "two"])


class StoreMachine(RuleBasedStateMachine):
    """Both stores share their time."""

    @initialize()
    def begin(self) -> None:
        self.now_s = 100.0
        self.folder = Path(tempfile.mkdtemp(prefix="trimtab-store-"))
        self.oracle = MemoryStore(now=lambda: self.now_s)
        self.real = SqliteStore(self.folder / "store.sqlite", now=lambda: self.now_s)
        self.done: list[dict[str, object]] = []
        self.leases: list[Lease] = []
        self.num_ops = 0

    @rule(
        changes=st.dictionaries(ROWS, VALUES, max_size=3),
        guards=st.dictionaries(ROWS, st.integers(0, 3), max_size=2),
        exact=st.booleans(),
        events=st.integers(0, 2),
        term=st.integers(0, 3),
    )
    def write(
        self,
        changes: dict[tuple[RecordKind, str], dict[str, object] | None],
        guards: dict[tuple[RecordKind, str], int],
        exact: bool,
        events: int,
        term: int,
    ) -> None:
        if exact:
            guards = {row: found.version if (found := self.oracle.get(*row)) is not None else 0 for row in guards}
        self.num_ops += 1
        arguments: dict[str, object] = {
            "op_id": f"op{self.num_ops}",
            "term": term,
            "guards": [Guard(kind=kind, id=row, version=version) for (kind, row), version in guards.items()],
            "changes": [Change(kind=kind, id=row, value=value) for (kind, row), value in changes.items()],
            "events": [EventDraft(kind="Did", at=AT, body={"op": self.num_ops, "i": i}) for i in range(events)],
        }
        self.done.append(arguments)
        assert self.real.apply(**arguments) == self.oracle.apply(**arguments)  # type: ignore[arg-type]

    @rule(choice=st.integers(0, 1000))
    def repeat(self, choice: int) -> None:
        if self.done:
            arguments = self.done[choice % len(self.done)]
            assert self.real.apply(**arguments) == self.oracle.apply(**arguments)  # type: ignore[arg-type]

    @rule(holder=HOLDERS, duration_s=st.sampled_from([0.0, 1.0, 10.0]))
    def acquire(self, holder: str, duration_s: float) -> None:
        lease = self.oracle.acquire_lease(holder, duration_s)
        assert self.real.acquire_lease(holder, duration_s) == lease
        self.leases.extend([lease] if lease is not None else [])

    @rule(choice=st.integers(0, 100), duration_s=st.sampled_from([1.0, 10.0]))
    def renew(self, choice: int, duration_s: float) -> None:
        if self.leases:
            lease = self.leases[choice % len(self.leases)]
            assert self.real.renew_lease(lease, duration_s) == self.oracle.renew_lease(lease, duration_s)

    @rule(choice=st.integers(0, 100))
    def release(self, choice: int) -> None:
        if self.leases:
            lease = self.leases[choice % len(self.leases)]
            self.real.release_lease(lease)
            self.oracle.release_lease(lease)

    @rule(seconds=st.sampled_from([0.5, 2.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def close_and_open(self) -> None:
        """Opening ends the lease: whoever held it is gone."""
        self.real.close()
        self.real = SqliteStore(self.folder / "store.sqlite", now=lambda: self.now_s)
        for lease in self.leases:
            self.oracle.release_lease(lease)

    @rule(kind=KINDS, after=st.sampled_from(["", "a", "b", "z"]), limit=st.integers(0, 3))
    def scan(self, kind: RecordKind, after: str, limit: int) -> None:
        assert self.real.scan(kind, after=after, limit=limit) == self.oracle.scan(kind, after=after, limit=limit)

    @rule(after=st.integers(0, 20), limit=st.integers(0, 5))
    def read_events(self, after: int, limit: int) -> None:
        assert self.real.events_after(after, limit=limit) == self.oracle.events_after(after, limit=limit)

    @invariant()
    def same(self) -> None:
        if hasattr(self, "real"):
            kinds = list(RecordKind)
            found, wanted = self.real.snapshot(kinds), self.oracle.snapshot(kinds)
            assert found.last_event == wanted.last_event
            assert {(row.kind, row.id): row for row in found.records} == {(row.kind, row.id): row for row in wanted.records}
            assert self.real.chain_head() == self.oracle.chain_head()

    def teardown(self) -> None:
        if hasattr(self, "real"):
            self.real.verify()
            self.real.close()
            shutil.rmtree(self.folder)


StoreMachine.TestCase.settings = settings(
    max_examples=in_long_form(30, 300), stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestStoreMachine = StoreMachine.TestCase
