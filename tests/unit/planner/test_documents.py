"""The page of strategies names every rule of the table, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from planner.strategies import RULES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "strategies.md"


def test_every_rule_is_on_the_page_and_no_other() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Rules")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `([a-z-]+)` \|", section, flags=re.MULTILINE)
    assert sorted(listed) == sorted(rule.name for rule in RULES)
