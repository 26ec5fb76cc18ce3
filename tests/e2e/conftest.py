"""Marks of this suite."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this folder starts the real control process."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
