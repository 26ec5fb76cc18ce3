"""One gang of ranks for all tests of the engine: starting it costs more than most tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.engine.gang import Gang

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def gang() -> Iterator[Gang]:
    with Gang() as started:
        yield started
