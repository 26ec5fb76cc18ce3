"""The stores that the contract suite runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scheduler.adapters.store.memory import MemoryStore
from scheduler.adapters.store.sqlite import SqliteStore
from scheduler.ports import StateStore


class StoreTime:
    """Store time that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store_time() -> StoreTime:
    return StoreTime()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path, store_time: StoreTime) -> Iterator[StateStore]:
    make: Callable[[], StateStore] = {
        "memory": lambda: MemoryStore(now=store_time),
        "sqlite": lambda: SqliteStore(tmp_path / "store.sqlite", now=store_time),
    }[request.param]
    made = make()
    yield made
    made.close()
