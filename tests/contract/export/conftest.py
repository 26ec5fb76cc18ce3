"""Exports as files, for the parsers of the targets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from planner.export import Export, ExportCase, ExportTarget, export

Laid = Callable[[ExportCase, ExportTarget], tuple[Export, Path]]


@pytest.fixture
def laid(tmp_path: Path) -> Laid:
    """Exports a case and writes its files; returns the export and their folder."""

    def lay(case: ExportCase, target: ExportTarget) -> tuple[Export, Path]:
        found = export(case, target)
        for file in found.files:
            (tmp_path / file.name).write_text(file.text, encoding="utf-8")
        return found, tmp_path

    return lay
