"""The page on the life of units and attempts is made from the tables and is current."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from tools import lifecycle_docs
from trimtab.lifecycle import ATTEMPT_MOVES, UNIT_MOVES, AttemptEvent, AttemptState


def test_the_page_is_current() -> None:
    assert lifecycle_docs.PAGE.read_text(encoding="utf-8") == lifecycle_docs.page(), "run python tools/lifecycle_docs.py"


def test_every_move_is_on_the_page() -> None:
    text = lifecycle_docs.page()
    for (before, event), after in ATTEMPT_MOVES.items():
        assert f"    {before or '[*]'} --> {after}: {event}" in text
    for (unit_before, unit_event), unit_after in UNIT_MOVES.items():
        assert f"    {unit_before} --> {unit_after}: {unit_event}" in text


def test_a_changed_table_makes_another_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = lifecycle_docs.page()
    moves = {**ATTEMPT_MOVES, (AttemptState.RELEASED, AttemptEvent.READY): AttemptState.RUNNING}
    monkeypatch.setattr(lifecycle_docs, "ATTEMPT_MOVES", MappingProxyType(moves))
    assert lifecycle_docs.page() != before
