"""The page on the life of units and attempts is made from the tables and is current."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from tools import write_lifecycle
from trimtab.lifecycle import ATTEMPT_MOVES, UNIT_MOVES, AttemptEvent, AttemptState


def test_the_page_is_current() -> None:
    assert write_lifecycle.PAGE.read_text(encoding="utf-8") == write_lifecycle.page(), "run python tools/write_lifecycle.py"


def test_every_move_is_on_the_page() -> None:
    text = write_lifecycle.page()
    for (before, event), after in ATTEMPT_MOVES.items():
        assert f"    {before or '[*]'} --> {after}: {event}" in text
    for (unit_before, unit_event), unit_after in UNIT_MOVES.items():
        assert f"    {unit_before} --> {unit_after}: {unit_event}" in text


def test_a_changed_table_makes_another_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_lifecycle.page()
    moves = {**ATTEMPT_MOVES, (AttemptState.RELEASED, AttemptEvent.READY): AttemptState.RUNNING}
    monkeypatch.setattr(write_lifecycle, "ATTEMPT_MOVES", MappingProxyType(moves))
    assert write_lifecycle.page() != before
