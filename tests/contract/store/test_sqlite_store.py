"""What the embedded store promises beyond the port: durability, privacy, and refusal of places and files that are not safe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from scheduler.adapters.store.sqlite import SqliteStore
from scheduler.adapters.store.sqlite_file import file_system
from scheduler.ports import Applied, Change, EventDraft, Guard, RecordKind
from trimtab.errors import StoreError, UnknownOutcome

AT = datetime(2026, 1, 1, tzinfo=UTC)


def write(store: SqliteStore, number: int) -> object:
    change = Change(kind=RecordKind.JOB, id=f"job{number:06d}", value={"n": number})
    return store.apply(
        op_id=f"op{number}",
        term=0,
        guards=(Guard(kind=RecordKind.JOB, id=change.id, version=0),),
        changes=(change,),
        events=(EventDraft(kind="Put", at=AT, body={"n": number}),),
    )


def test_everything_is_there_after_closing_and_opening(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = SqliteStore(path)
    lease = store.acquire_lease("x", 1000)
    assert lease is not None
    for number in range(10):
        write(store, number)
    head, rows, events = store.chain_head(), store.snapshot([RecordKind.JOB]), store.events_after(0)
    store.close()
    store = SqliteStore(path)
    assert (store.chain_head(), store.snapshot([RecordKind.JOB]), store.events_after(0)) == (head, rows, events)
    assert write(store, 3) == Applied(last_event=4, repeated=True)
    assert write(store, 10) == Applied(last_event=11)
    store.verify()
    store.close()


def test_opening_ends_the_lease_of_whoever_led_before_and_the_term_still_rises(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.sqlite")
    old = store.acquire_lease("x", 1000)
    assert old is not None
    store.close()
    store = SqliteStore(tmp_path / "store.sqlite")
    new = store.acquire_lease("y", 1000)
    assert new is not None
    assert new.term == old.term + 1
    store.close()


_WRITER = """
import sys
from pathlib import Path
from scheduler.adapters.store.sqlite import SqliteStore
from tests.contract.store.test_sqlite_store import write
from concurrent.futures import ThreadPoolExecutor
store = SqliteStore(Path(sys.argv[1]))
first = int(sys.argv[2])
def one(number):
    write(store, number)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
with ThreadPoolExecutor(4) as pool:
    list(pool.map(one, range(first, first + 100000)))
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    acknowledged: set[int] = set()
    for round_number in range(4):
        first = round_number * 100_000
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), str(first)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        assert child.stdout is not None
        for _ in range(20 + 37 * round_number):
            acknowledged.add(int(child.stdout.readline()))
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
        acknowledged |= {int(line) for line in rest.split("\n")[:-1]}
        child.wait()
        child.stdout.close()
        store = SqliteStore(path)
        store.verify()
        found = {int(str(row.value["n"])) for row in store.snapshot([RecordKind.JOB]).records}
        numbers = [event.draft.body["n"] for event in store.events_after(0, limit=1_000_000)]
        store.close()
        assert acknowledged <= found
        assert sorted(numbers) == sorted(found)


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(tmp_path / "store.sqlite")
        write(store, 1)
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert set(modes) == {"store.sqlite", "store.sqlite-wal", "store.sqlite-shm"}
    assert set(modes.values()) == {0o600}


def test_a_file_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.touch(mode=0o644)
    SqliteStore(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_everybody_may_write_into_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StoreError, match=r"everybody may write .*0777.*0700"):
        SqliteStore(folder / "store.sqlite")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        SqliteStore(tmp_path / "nowhere" / "store.sqlite")


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.adapters.store.sqlite_file.file_system", lambda folder: "nfs4")
    with pytest.raises(StoreError, match=r"network file system \(nfs4\)"):
        SqliteStore(tmp_path / "store.sqlite")


def test_the_file_system_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    inner = tmp_path / "with space" / "inner"
    inner.mkdir(parents=True)
    point = str(tmp_path / "with space").replace(" ", "\\040")
    mounts.write_text(
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"22 21 0:50 / {point} rw,relatime shared:1 - nfs4 host:/x rw\n"
        f"23 21 0:51 / {tmp_path}/with rw - tmpfs tmpfs rw\n"
    )
    assert file_system(inner, mounts=str(mounts)) == "nfs4"
    assert file_system(tmp_path, mounts=str(mounts)) == "ext4"
    assert file_system(tmp_path, mounts=str(tmp_path / "none")) == ""


def test_a_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    SqliteStore(path).close()
    db = apsw.Connection(str(path))
    db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    db.close()
    with pytest.raises(StoreError, match="schema 99; this version of trimtab knows 1"):
        SqliteStore(path)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteStore(path)


def test_a_changed_event_is_found(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = SqliteStore(path)
    for number in range(5):
        write(store, number)
    store.verify()
    store.close()
    db = apsw.Connection(str(path))
    db.execute("UPDATE events SET draft = replace(draft, 'Put', 'Set') WHERE number = 3")
    db.close()
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="event 3 does not follow"):
        store.verify()
    store.close()


def test_a_failed_commit_is_an_unknown_outcome_and_closes_the_store_to_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "store.sqlite")
    write(store, 1)
    real = store._writer

    class Failing:
        """The connection, with a disk that does not take the commit."""

        in_transaction = True

        def execute(self, query: str, *values: object) -> object:
            if query == "COMMIT":
                raise apsw.IOError("disk I/O error")
            return real.execute(query, *values)

        def close(self) -> None:
            real.close()

    monkeypatch.setattr(store, "_writer", Failing())
    with pytest.raises(UnknownOutcome, match="must be opened again"):
        write(store, 2)
    monkeypatch.setattr(store, "_writer", real)
    with pytest.raises(StoreError, match="must be opened again"):
        write(store, 3)
    real.execute("ROLLBACK")
    store.close()
    store = SqliteStore(tmp_path / "store.sqlite")
    assert write(store, 2) == Applied(last_event=2)
    store.close()


def test_a_full_disk_refuses_the_write_and_keeps_what_is_there(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.sqlite")
    write(store, 1)
    store._do(lambda db: db.execute("PRAGMA max_page_count = 20"))
    big = Change(kind=RecordKind.JOB, id="big", value={"x": "y" * 500_000})
    with pytest.raises(StoreError, match="full"):
        store.apply(op_id="big", term=0, guards=(), changes=(big,), events=())
    assert store.get(RecordKind.JOB, "job000001") is not None
    assert store.get(RecordKind.JOB, "big") is None
    store._do(lambda db: db.execute("PRAGMA max_page_count = 1000000"))
    assert isinstance(store.apply(op_id="big", term=0, guards=(), changes=(big,), events=()), Applied)
    store.verify()
    store.close()


def test_a_backup_taken_in_use_opens_as_a_store(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.sqlite")
    for number in range(50):
        write(store, number)
    store.back_up(tmp_path / "copy.sqlite")
    head = store.chain_head()
    store.close()
    copy = SqliteStore(tmp_path / "copy.sqlite")
    copy.verify()
    assert copy.chain_head() == head
    copy.close()
