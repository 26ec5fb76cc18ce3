"""The mirror shows what the store has: after its own writes in any order, after those of others, and after doubt."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta

import pytest

from scheduler.adapters.store.memory import MemoryStore
from scheduler.core import jobs
from scheduler.core.snapshot import SNAPSHOT_KINDS, Snapshot, Write
from scheduler.ports import Applied, ApplyResult, Change, Conflict, EventDraft, Guard
from scheduler.service.mirror import Mirror
from tests.support.kit import START, command_job, counter_bytes
from trimtab.errors import StoreError, UnknownOutcome
from trimtab.ids import JobId


def submission(number: int) -> Write:
    wanted = jobs.Submission(job_id=JobId(f"job_{number:03d}"), spec=command_job(), spec_digest="d", submitted_by="ann")
    return jobs.submit(Snapshot(), wanted, now=START + timedelta(seconds=number))


def same(mirror: Mirror, store: MemoryStore) -> None:
    stored = store.snapshot(SNAPSHOT_KINDS)
    wanted = Snapshot.from_records(stored.records, last_event=stored.last_event)
    found = mirror.snapshot
    assert found.last_event == wanted.last_event
    assert {k: dict(v) for k, v in found.rows.items() if v} == {k: dict(v) for k, v in wanted.rows.items() if v}


def mirror_of(store: MemoryStore, seed: int = 0) -> Mirror:
    made = Mirror(store, random_bytes=counter_bytes(seed), on_change=lambda: None)
    made.reload()
    return made


def test_own_writes_show_at_once() -> None:
    store = MemoryStore()
    mirror = mirror_of(store)
    for number in range(5):
        assert isinstance(mirror.commit(submission(number)), Applied)
        same(mirror, store)


def test_writes_of_many_threads_all_show() -> None:
    store = MemoryStore()
    mirror = mirror_of(store)

    def work(worker: int) -> None:
        for number in range(20):
            mirror.commit(submission(worker * 100 + number))
            assert mirror.snapshot.job(JobId(f"job_{worker * 100 + number:03d}")) is not None

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(mirror, store)
    assert len(list(mirror.snapshot.jobs())) == 120


def test_the_writes_of_others_show_after_the_next_own_one_or_a_conflict() -> None:
    store = MemoryStore()
    one, other = mirror_of(store, 1), mirror_of(store, 2)
    other.commit(submission(1))
    one.commit(submission(2))
    same(one, store)
    assert isinstance(other.commit(submission(2)), Conflict)
    same(other, store)


class Doubtful(MemoryStore):
    """Takes writes and loses some of the answers."""

    num_lost = 0
    fails = False

    def apply(
        self, *, op_id: str, term: int, guards: Sequence[Guard], changes: Sequence[Change], events: Sequence[EventDraft]
    ) -> ApplyResult:
        result = super().apply(op_id=op_id, term=term, guards=guards, changes=changes, events=events)
        if self.fails:
            raise StoreError("gone after the write")
        if self.num_lost:
            self.num_lost -= 1
            raise UnknownOutcome("lost")
        return result


def test_a_write_of_unknown_outcome_is_repeated_and_takes_effect_once() -> None:
    store = Doubtful()
    mirror = mirror_of(store)
    store.num_lost = 3
    result = mirror.commit(submission(1))
    assert isinstance(result, Applied)
    assert result.repeated
    same(mirror, store)
    assert len(store.events_after(0)) == 1


def test_after_doubt_the_store_is_read_anew() -> None:
    store = Doubtful()
    mirror = mirror_of(store)
    store.num_lost = 99
    with pytest.raises(UnknownOutcome):
        mirror.commit(submission(1))
    store.num_lost, store.fails = 0, True
    with pytest.raises(StoreError):
        mirror.commit(submission(2))
    assert list(mirror.snapshot.jobs()) == []
    assert len(list(mirror.settle().jobs())) == 2
    same(mirror, store)
