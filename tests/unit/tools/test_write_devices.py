"""The page of device types is made from the catalogue and is current."""

from __future__ import annotations

import dataclasses
import re

import pytest

from planner.devices import entries
from tools import write_devices


def test_the_page_is_current() -> None:
    assert write_devices.PAGE.read_text(encoding="utf-8") == write_devices.page(), "run python tools/write_devices.py"


def test_every_device_stands_in_every_table_that_is_for_it() -> None:
    text = write_devices.page()
    for name, entry in entries().items():
        sources = {(figure.source, figure.retrieved_on) for figure in entry.figures}
        tables = 4 + len(sources) + (entry.device_type.torus is not None)
        assert len(re.findall(rf"^\| {re.escape(name)} \|", text, re.MULTILINE)) == tables


def test_figures_that_nobody_printed_are_marked() -> None:
    text = write_devices.page()
    assert re.search(r"^\| B300-SXM-270GB \| 270 \* \| 8000 \|", text, re.MULTILINE)
    assert re.search(r"^\| H100-SXM5-80GB \| 80 \| 3350 \| NVLink 4 \| 450 \| 4 \* \| 8 \| 8 \|", text, re.MULTILINE)


def test_a_changed_figure_makes_another_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_devices.page()
    known = dict(entries())
    entry = known["L4-24GB"]
    figures = tuple(dataclasses.replace(f, value=f.value + 1) if f.name == "memory_gib" else f for f in entry.figures)
    known["L4-24GB"] = dataclasses.replace(entry, figures=figures)
    monkeypatch.setattr(write_devices, "entries", lambda: known)
    assert "| L4-24GB | 25 |" in write_devices.page()
    assert "| L4-24GB | 24 |" in before
