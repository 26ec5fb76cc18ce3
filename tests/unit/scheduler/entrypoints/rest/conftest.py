"""A served control plane for each test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rest import Served, served


@pytest.fixture
def server() -> Iterator[Served]:
    """A real control plane over the simulated world, on a unix socket."""
    with tempfile.TemporaryDirectory(prefix="tt-") as folder, served(Path(folder), metrics=b"trimtab_x 1\n") as found:
        yield found
