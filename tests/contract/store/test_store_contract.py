"""What every state store promises, one example for each promise, error and edge."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from scheduler.ports import (
    Applied,
    ApplyResult,
    Change,
    Conflict,
    EventDraft,
    Guard,
    RecordKind,
    StaleTerm,
    StateStore,
)
from trimtab.errors import StoreError
from trimtab.ids import AttemptRef, JobId, UnitId

if TYPE_CHECKING:
    from tests.contract.store.conftest import StoreTime

AT = datetime(2026, 1, 1, tzinfo=UTC)
JOB, UNIT, DEVICE = RecordKind.JOB, RecordKind.UNIT, RecordKind.DEVICE


def guard(row: str, version: int, kind: RecordKind = JOB) -> Guard:
    return Guard(kind=kind, id=row, version=version)


def put(row: str, value: dict[str, object] | None = None, kind: RecordKind = JOB) -> Change:
    return Change(kind=kind, id=row, value={"v": 1} if value is None else value)


def delete(row: str, kind: RecordKind = JOB) -> Change:
    return Change(kind=kind, id=row, value=None)


def event(kind: str = "Happened", **body: object) -> EventDraft:
    return EventDraft(kind=kind, at=AT, body=body)


def apply(
    store: StateStore,
    op_id: str,
    *,
    term: int = 0,
    guards: tuple[Guard, ...] = (),
    changes: tuple[Change, ...] = (),
    events: tuple[EventDraft, ...] = (),
) -> ApplyResult:
    return store.apply(op_id=op_id, term=term, guards=guards, changes=changes, events=events)


def test_a_new_store_is_empty(store: StateStore) -> None:
    assert store.get(JOB, "a") is None
    assert tuple(store.scan(JOB)) == ()
    assert tuple(store.events_after(0)) == ()
    assert store.snapshot([JOB, UNIT]).records == ()
    assert store.snapshot([]).last_event == 0


def test_a_row_begins_with_version_1_and_rises_by_1(store: StateStore) -> None:
    for version in (1, 2, 3):
        assert isinstance(apply(store, f"op{version}", changes=(put("a", {"v": version}),)), Applied)
        row = store.get(JOB, "a")
        assert row is not None
        assert (row.kind, row.id, row.version, dict(row.value)) == (JOB, "a", version, {"v": version})


def test_a_deleted_row_is_gone_and_begins_again(store: StateStore) -> None:
    apply(store, "1", changes=(put("a"),))
    apply(store, "2", changes=(put("a"),))
    apply(store, "3", changes=(delete("a"),))
    assert store.get(JOB, "a") is None
    apply(store, "4", guards=(guard("a", 0),), changes=(put("a"),))
    row = store.get(JOB, "a")
    assert row is not None
    assert row.version == 1


def test_deleting_what_is_not_there_is_no_error(store: StateStore) -> None:
    assert isinstance(apply(store, "1", changes=(delete("a"),)), Applied)


def test_rows_of_two_kinds_with_one_id_are_two_rows(store: StateStore) -> None:
    apply(store, "1", changes=(put("a", {"k": "job"}), put("a", {"k": "unit"}, UNIT)))
    job, unit = store.get(JOB, "a"), store.get(UNIT, "a")
    assert job is not None
    assert unit is not None
    assert (job.value["k"], unit.value["k"]) == ("job", "unit")


def test_a_guard_that_holds_lets_the_write_pass(store: StateStore) -> None:
    apply(store, "1", guards=(guard("a", 0),), changes=(put("a"),))
    assert isinstance(apply(store, "2", guards=(guard("a", 1),), changes=(put("b"),)), Applied)


@pytest.mark.parametrize("version", [0, 2, 99])
def test_a_guard_that_fails_stops_everything(store: StateStore, version: int) -> None:
    apply(store, "1", changes=(put("a"),), events=(event(),))
    result = apply(store, "2", guards=(guard("a", version),), changes=(put("b"), delete("a")), events=(event(),))
    assert result == Conflict(rows=((JOB, "a", 1),))
    assert store.get(JOB, "b") is None
    assert store.get(JOB, "a") is not None
    assert len(store.events_after(0)) == 1


def test_a_guard_on_a_missing_row_says_version_0(store: StateStore) -> None:
    assert apply(store, "1", guards=(guard("a", 3),)) == Conflict(rows=((JOB, "a", 0),))


def test_a_conflict_names_every_guard_that_failed_and_no_other(store: StateStore) -> None:
    apply(store, "1", changes=(put("a"), put("b"), put("c")))
    result = apply(store, "2", guards=(guard("a", 1), guard("b", 7), guard("c", 0), guard("d", 0)))
    assert result == Conflict(rows=((JOB, "b", 1), (JOB, "c", 1)))


def test_a_conflict_is_not_remembered_under_its_op_id(store: StateStore) -> None:
    assert isinstance(apply(store, "1", guards=(guard("a", 1),), changes=(put("b"),)), Conflict)
    apply(store, "2", changes=(put("a"),))
    assert isinstance(apply(store, "1", guards=(guard("a", 1),), changes=(put("b"),)), Applied)


def test_the_same_op_id_gives_the_first_answer_and_no_second_effect(store: StateStore) -> None:
    first = apply(store, "1", changes=(put("a"),), events=(event(), event()))
    apply(store, "2", events=(event(),))
    again = apply(store, "1", changes=(put("a"),), events=(event(), event()))
    assert first == Applied(last_event=2)
    assert again == Applied(last_event=2, repeated=True)
    row = store.get(JOB, "a")
    assert row is not None
    assert row.version == 1
    assert len(store.events_after(0)) == 3


def test_a_repeat_is_answered_even_where_its_guards_fail_now(store: StateStore) -> None:
    apply(store, "1", guards=(guard("a", 0),), changes=(put("a"),))
    assert apply(store, "1", guards=(guard("a", 0),), changes=(put("a"),)) == Applied(last_event=0, repeated=True)


def test_a_repeat_is_answered_even_under_a_stale_term(store: StateStore, store_time: StoreTime) -> None:
    store.acquire_lease("x", 10)
    apply(store, "1", term=1, changes=(put("a"),))
    store_time.now_s += 11
    store.acquire_lease("y", 10)
    assert apply(store, "1", term=1, changes=(put("a"),)) == Applied(last_event=0, repeated=True)


def test_event_numbers_rise_by_one_without_gaps(store: StateStore) -> None:
    for step in range(5):
        result = apply(store, str(step), events=tuple(event(i=i) for i in range(step)))
        assert result == Applied(last_event=sum(range(step + 1)))
    assert [found.number for found in store.events_after(0)] == list(range(1, 11))


def test_events_keep_every_field(store: StateStore) -> None:
    ref = AttemptRef(unit_id=UnitId("job_1.u0"), number=3)
    at = datetime(2026, 3, 1, 10, 5, 7, 123456, tzinfo=timezone(timedelta(hours=2)))
    body = {"text": "naïve ☃ \x00 \n", "list": [1, 2.5, None, True], "nested": {"a": {"b": []}}}
    draft = EventDraft(kind="Assigned", at=at, job_id=JobId("job_1"), attempt=ref, body=body)
    apply(store, "1", events=(draft,))
    (found,) = store.events_after(0)
    assert found.draft == draft


@pytest.mark.parametrize(
    ("after", "limit", "numbers"), [(0, 2, [1, 2]), (3, 10, [4, 5]), (5, 10, []), (9, 1, []), (-4, 1, [1]), (0, 0, [])]
)
def test_events_are_read_in_pages(store: StateStore, after: int, limit: int, numbers: list[int]) -> None:
    apply(store, "1", events=tuple(event(i=i) for i in range(5)))
    assert [found.number for found in store.events_after(after, limit=limit)] == numbers


def test_rows_are_scanned_in_order_of_id_in_pages(store: StateStore) -> None:
    names = ["b", "a", "aa", "B", "10", "9", "é", "z"]
    apply(store, "1", changes=(*(put(name) for name in names), put("other", kind=UNIT)))
    found: list[str] = []
    while page := store.scan(JOB, after=found[-1] if found else "", limit=3):
        found.extend(row.id for row in page)
    assert found == sorted(names)


def test_a_snapshot_has_the_asked_kinds_and_the_newest_event(store: StateStore) -> None:
    apply(store, "1", changes=(put("j"), put("u", kind=UNIT), put("d", kind=DEVICE)), events=(event(),))
    found = store.snapshot([UNIT, JOB, JOB])
    assert {(row.kind, row.id) for row in found.records} == {(JOB, "j"), (UNIT, "u")}
    assert found.last_event == 1


def test_values_pass_through_json(store: StateStore) -> None:
    value: dict[str, object] = {"list": (1, 2), "float": 0.1, "big": 2**60, "text": "☃", "none": None, "inf": float("inf")}
    apply(store, "1", changes=(put("a", value),))
    row = store.get(JOB, "a")
    assert row is not None
    assert dict(row.value) == {**value, "list": [1, 2], "inf": "inf"}


def test_changing_a_value_after_the_write_changes_nothing(store: StateStore) -> None:
    value: dict[str, object] = {"list": [1]}
    apply(store, "1", changes=(put("a", value),))
    value["list"] = [2]
    row = store.get(JOB, "a")
    assert row is not None
    assert row.value["list"] == [1]


@pytest.mark.parametrize(
    ("op_id", "term", "changes"),
    [
        ("", 0, (put("a"),)),
        ("1", -1, (put("a"),)),
        ("1", 0, (put("a"), put("a"))),
        ("1", 0, (put("a"), delete("a"))),
        ("1", 0, (put(""),)),
        ("1", 0, (put("a", {"x": object()}),)),
    ],
)
def test_a_malformed_write_is_refused_and_writes_nothing(
    store: StateStore, op_id: str, term: int, changes: tuple[Change, ...]
) -> None:
    with pytest.raises(StoreError):
        apply(store, op_id, term=term, changes=(put("other"), *changes))
    assert store.get(JOB, "other") is None
    assert store.get(JOB, "a") is None


def test_a_value_over_the_limit_is_refused(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.adapters.store.checks.MAX_VALUE_BYTES", 100)
    with pytest.raises(StoreError, match="over the limit of 100"):
        apply(store, "1", changes=(put("a", {"x": "y" * 200}),))
    assert store.get(JOB, "a") is None


# ---------------------------------------------------------------------------------------------------------------- leadership


def test_the_first_lease_has_term_1_and_nobody_else_gets_it(store: StateStore) -> None:
    lease = store.acquire_lease("x", 10)
    assert lease is not None
    assert (lease.holder, lease.term) == ("x", 1)
    assert store.acquire_lease("y", 10) is None


def test_the_holder_acquires_again_under_the_same_term(store: StateStore, store_time: StoreTime) -> None:
    store.acquire_lease("x", 10)
    store_time.now_s += 8
    again = store.acquire_lease("x", 10)
    assert again is not None
    assert again.term == 1
    store_time.now_s += 8
    assert store.acquire_lease("y", 10) is None


@pytest.mark.parametrize("holder", ["x", "y"])
def test_an_expired_lease_goes_to_the_next_under_a_higher_term(store: StateStore, store_time: StoreTime, holder: str) -> None:
    store.acquire_lease("x", 10)
    store_time.now_s += 10
    lease = store.acquire_lease(holder, 10)
    assert lease is not None
    assert (lease.holder, lease.term) == (holder, 2)


def test_renewing_prolongs_by_store_time(store: StateStore, store_time: StoreTime) -> None:
    lease = store.acquire_lease("x", 10)
    assert lease is not None
    for _ in range(5):
        store_time.now_s += 9
        assert store.renew_lease(lease, 10)
        assert store.acquire_lease("y", 10) is None


def test_a_lease_that_expired_cannot_be_renewed(store: StateStore, store_time: StoreTime) -> None:
    lease = store.acquire_lease("x", 10)
    assert lease is not None
    store_time.now_s += 10
    assert not store.renew_lease(lease, 10)


def test_an_old_lease_cannot_be_renewed_or_released(store: StateStore, store_time: StoreTime) -> None:
    old = store.acquire_lease("x", 10)
    assert old is not None
    store_time.now_s += 11
    new = store.acquire_lease("y", 10)
    assert new is not None
    assert not store.renew_lease(old, 10)
    store.release_lease(old)
    assert store.renew_lease(new, 10)


def test_a_released_lease_is_free_at_once_and_the_term_still_rises(store: StateStore) -> None:
    lease = store.acquire_lease("x", 10)
    assert lease is not None
    store.release_lease(lease)
    assert not store.renew_lease(lease, 10)
    again = store.acquire_lease("y", 10)
    assert again is not None
    assert again.term == 2


def test_a_write_under_an_old_term_changes_nothing(store: StateStore, store_time: StoreTime) -> None:
    store.acquire_lease("x", 10)
    store_time.now_s += 11
    store.acquire_lease("y", 10)
    assert apply(store, "1", term=1, changes=(put("a"),), events=(event(),)) == StaleTerm(current=2)
    assert store.get(JOB, "a") is None
    assert isinstance(apply(store, "1", term=2, changes=(put("a"),)), Applied)


def test_a_write_with_term_0_needs_no_leadership(store: StateStore) -> None:
    store.acquire_lease("x", 10)
    assert isinstance(apply(store, "1", term=0, changes=(put("a"),)), Applied)


def test_a_stale_term_is_not_remembered_under_its_op_id(store: StateStore, store_time: StoreTime) -> None:
    store.acquire_lease("x", 10)
    store_time.now_s += 11
    store.acquire_lease("y", 10)
    assert isinstance(apply(store, "1", term=1, changes=(put("a"),)), StaleTerm)
    assert isinstance(apply(store, "1", term=2, changes=(put("a"),)), Applied)


# ----------------------------------------------------------------------------------------------------------- many at a time


def test_one_guard_among_many_writers_lets_one_pass(store: StateStore) -> None:
    results: list[ApplyResult] = []

    def write(number: int) -> None:
        results.append(apply(store, f"op{number}", guards=(guard("a", 0),), changes=(put("a", {"by": number}),)))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(result, Applied) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 31


def test_concurrent_increments_lose_nothing(store: StateStore) -> None:
    apply(store, "0", changes=(put("n", {"n": 0}),))

    def count(worker: int) -> None:
        done, tries = 0, 0
        while done < 10:
            tries += 1
            row = store.get(JOB, "n")
            assert row is not None
            change = put("n", {"n": int(str(row.value["n"])) + 1})
            result = apply(store, f"{worker}/{tries}", guards=(guard("n", row.version),), changes=(change,), events=(event(),))
            done += isinstance(result, Applied)

    threads = [threading.Thread(target=count, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = store.get(JOB, "n")
    assert row is not None
    assert (row.version, row.value["n"]) == (61, 60)
    assert [found.number for found in store.events_after(0)] == list(range(1, 61))


def test_a_closed_store_says_so(store: StateStore) -> None:
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.get(JOB, "a")
    with pytest.raises(StoreError, match="closed"):
        apply(store, "1", changes=(put("a"),))
    with pytest.raises(StoreError, match="closed"):
        store.acquire_lease("x", 1)
    store.close()
