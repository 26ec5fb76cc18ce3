"""The promises of the shelf of measured runs, on every adapter; and those of the file alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from scheduler.adapters.measurements.file import MeasurementFile
from scheduler.adapters.measurements.memory import MemoryMeasurements
from scheduler.ports import MeasurementShelf
from tests.support.measurements import BEGAN, measured
from trimtab.errors import SpecError, StoreError
from trimtab.files import try_lock
from trimtab.measurement import MAX_RUNS_PER_KEY


@pytest.fixture(params=["file", "memory"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> MeasurementShelf:
    """Each adapter."""
    makers: dict[str, Callable[[], MeasurementShelf]] = {
        "file": lambda: MeasurementFile(tmp_path / "calibrations.json"),
        "memory": MemoryMeasurements,
    }
    return makers[request.param]()


def sources(shelf: MeasurementShelf) -> list[str]:
    return [entry.source for entry in shelf.kept().measurements]


def test_an_empty_shelf_holds_nothing(shelf: MeasurementShelf) -> None:
    assert shelf.kept().measurements == ()
    assert shelf.forget("anything") == frozenset()


def test_runs_are_kept_by_source_in_order_of_time(shelf: MeasurementShelf) -> None:
    assert shelf.put(measured(1.2, 2))
    assert shelf.put(measured(1.1, 1))
    assert not shelf.put(measured(1.1, 1))
    assert shelf.put(measured(1.3, 2))
    assert shelf.kept().measurements == (measured(1.1, 1), measured(1.3, 2))


def test_what_is_forgotten_does_not_come_back(shelf: MeasurementShelf) -> None:
    for number in range(3):
        shelf.put(measured(1.0, number))
    assert shelf.forget("job_1.u0.a1") == {"job_1.u0.a1"}
    assert not shelf.put(measured(1.0, 1))
    assert sources(shelf) == ["job_0.u0.a1", "job_2.u0.a1"]
    assert shelf.forget("cpu-test/trimtab/probe") == frozenset()
    assert shelf.forget("cpu-test/trimtab/roofline") == {"job_0.u0.a1", "job_2.u0.a1"}
    assert shelf.kept().measurements == ()
    assert shelf.put(measured(1.0, 1), again=True)
    assert sources(shelf) == ["job_1.u0.a1"]
    assert shelf.forget("job_1.u0.a1") == {"job_1.u0.a1"}
    shelf.put(measured(1.0, 7))
    assert shelf.forget("cpu-test") == {"job_7.u0.a1"}


def test_the_newest_runs_of_a_key_stay(shelf: MeasurementShelf) -> None:
    other = measured(1.0, framework="megatron", source="other", at=BEGAN - timedelta(days=900))
    shelf.put(other)
    for number in range(MAX_RUNS_PER_KEY + 2):
        shelf.put(measured(1.0, number))
    assert not shelf.put(measured(1.0, 0))
    found = sources(shelf)
    assert len(found) == MAX_RUNS_PER_KEY + 1
    assert found[0] == "other"
    assert found[1] == "job_2.u0.a1"


def test_writers_in_several_places_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "calibrations.json"

    def write(first: int) -> None:
        own = MeasurementFile(path)
        for number in range(first, first + 10):
            own.put(measured(1.0, number))

    threads = [threading.Thread(target=write, args=(10 * n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(MeasurementFile(path).kept().measurements) == 30


def test_another_writer_is_seen_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "calibrations.json"
    reader = MeasurementFile(path)
    assert reader.kept().measurements == ()
    MeasurementFile(path).put(measured(1.25))
    assert reader.kept().measurements == (measured(1.25),)
    assert path.stat().st_mode & 0o077 == 0
    path.unlink()
    assert reader.kept().measurements == ()


def test_a_lock_that_is_held_too_long_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.adapters.measurements.file._LOCK_PATIENCE_S", 0.05)
    path = tmp_path / "calibrations.json"
    assert try_lock(tmp_path / ".calibrations.json.lock") is not None
    with pytest.raises(StoreError, match="another process"):
        MeasurementFile(path).put(measured(1.0))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda tree: tree["measurements"][1].pop("predicted_s"), r"measurements\[1\].predicted_s: missing.*job_1.u0.a1"),
        (lambda tree: tree["measurements"][0].update(basis="dream"), r"measurements\[0\].basis: 'dream' is not one of"),
        (lambda tree: tree["measurements"][1].update(measured_s=-1.0), r"measurements\[1\]: measured_s must be more than 0"),
        (lambda tree: tree["measurements"].append(3), r"measurements\[2\]: expected an object"),
        (lambda tree: tree["measurements"].append(tree["measurements"][0]), r"measurements\[2\].source: .* is there twice"),
        (lambda tree: tree.update(version=2), "version: found 2; allowed: 1"),
        (lambda tree: tree.update(forgotten=None), "forgotten: found no list"),
        (lambda tree: tree.pop("measurements"), "measurements: found no list"),
    ],
)
def test_a_bad_file_names_the_entry_and_stays_as_it_is(
    tmp_path: Path, spoil: Callable[[dict[str, object]], object], words: str
) -> None:
    path = tmp_path / "calibrations.json"
    shelf = MeasurementFile(path)
    shelf.put(measured(1.0))
    shelf.put(measured(1.1, 1))
    tree = json.loads(path.read_text())
    spoil(tree)
    path.write_text(json.dumps(tree))
    before = path.read_bytes()
    for call in (shelf.kept, lambda: shelf.put(measured(1.0, 5)), lambda: shelf.forget("cpu-test")):
        with pytest.raises(SpecError, match=words):
            call()
    assert path.read_bytes() == before


def test_text_that_is_no_json_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "calibrations.json"
    MeasurementFile(path).put(measured(1.0))
    path.write_text(path.read_text().replace('"basis":', "basis:"))
    with pytest.raises(SpecError, match=r"calibrations.json:2:\d+: not JSON"):
        MeasurementFile(path).kept()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError):
        MeasurementFile(path).kept()
