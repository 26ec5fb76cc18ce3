"""The house rules hold in this repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.architecture.rules import SOURCE_RULES
from tests.architecture.source_tree import Violation, modules
from tests.architecture.tree_rules import TREE_RULES, build_wheel, wheel_contents

ROOT = Path(__file__).resolve().parents[2]
Rule = Callable[[Path], list[Violation]]


@pytest.mark.parametrize("rule", [*SOURCE_RULES, *TREE_RULES], ids=lambda rule: rule.__name__)
def test_rule_holds(rule: Rule) -> None:
    broken = rule(ROOT)
    assert not broken, f"{rule.__doc__}\n" + "\n".join(map(str, broken))


def test_rules_see_the_product() -> None:
    """A rule that looked at nothing would hold too."""
    names = {module.name for module in modules(ROOT)}
    assert {"trimtab.lifecycle", "scheduler.ports", "planner", "workers"} <= names


def test_wheel_holds_the_four_packages_and_nothing_else(tmp_path: Path) -> None:
    broken = wheel_contents(ROOT, build_wheel(ROOT, tmp_path))
    assert not broken, "\n".join(map(str, broken))
