"""The page of exports is made from the exporters' tables and is current."""

from __future__ import annotations

import re

from planner.export import TARGETS, Dimension
from tools import write_export


def test_the_page_is_current() -> None:
    assert write_export.PAGE.read_text(encoding="utf-8") == write_export.page(), "run python tools/write_export.py"


def test_every_dimension_stands_in_the_table_of_every_target() -> None:
    sections = re.split(r"^## ", write_export.page(), flags=re.MULTILINE)[1:]
    assert [section.split("\n", 1)[0] for section in sections] == [str(target) for target in TARGETS]
    for section in sections:
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [str(dimension) for dimension in Dimension]
