"""README.md says what is so: its commands exist, and its plan is the one that is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import write_readme


def test_the_plan_in_the_readme_is_the_one_that_is_printed(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    assert write_readme.with_plan(text, write_readme.printed_plan()) == text, "run: make docs"


def test_a_readme_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"README\.md lacks"):
        write_readme.with_plan("# Trimtab\n", "plan")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_every_make_target_that_a_page_names_exists(repository: Path, page: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (repository / "Makefile").read_text(), re.MULTILINE))
    text = (repository / page).read_text(encoding="utf-8")
    commands = re.findall(r"(?:^|`|' )make ([a-z][a-z0-9-]*(?: [a-z][a-z0-9-]*)*)", text, re.MULTILINE)
    named = {target for command in commands for target in command.split()}
    assert named, "the page names no target: the pattern is wrong"
    assert named <= targets
