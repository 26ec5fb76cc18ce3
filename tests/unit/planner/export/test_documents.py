"""The small writers of TOML and YAML, against readers of both, and the start script against a shell."""

from __future__ import annotations

import math
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from planner.export import Launch
from planner.export.documents import start_script, to_toml, to_yaml
from planner.export.types import NODE_RANK

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
NUMBERS = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
PLAIN = st.one_of(TEXTS, NUMBERS, st.lists(TEXTS, max_size=3), st.lists(st.integers(0, 9), max_size=3))
KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
TREES = st.recursive(
    st.dictionaries(KEYS, PLAIN, max_size=4),
    lambda inner: st.dictionaries(KEYS, st.one_of(PLAIN, inner), max_size=4),
    max_leaves=8,
)


def same(one: Any, two: Any) -> bool:
    """Equal, with floats as floats."""
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=0, abs_tol=0) or one == two
    if isinstance(one, dict):
        return isinstance(two, dict) and one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return bool(one == two) and isinstance(two, type(one))


def without_empty(tree: dict[str, Any]) -> dict[str, Any]:
    """TOML writes no table that holds nothing."""
    found = {key: without_empty(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in found.items() if value != {}}


@given(TREES)
def test_yaml_is_read_back(tree: dict[str, Any]) -> None:
    assert same(tree, yaml.safe_load(to_yaml(tree)) or {})


@given(TREES)
def test_toml_is_read_back(tree: dict[str, Any]) -> None:
    assert same(without_empty(tree), tomllib.loads(to_toml(tree)))


@pytest.mark.parametrize("value", [1e-05, 1e30, 1.5e-08, -2e-07, 0.1, 3.0])
def test_small_and_large_numbers_stay_numbers_in_yaml(value: float) -> None:
    assert yaml.safe_load(to_yaml({"value": value})) == {"value": value}


def test_keys_that_yaml_reads_as_something_else_are_quoted() -> None:
    tree = {"on": 1, "1": 2, "a b": 3, "no": {"y": 4}}
    assert yaml.safe_load(to_yaml(tree)) == tree


def test_the_script_passes_every_word_as_it_is(tmp_path: Path) -> None:
    words = ("printf", "%s|", "a b", "$HOME", "it's", NODE_RANK, '"x"', "([0]*1+[1]*3)")
    launch = Launch(argv=words, environment={"WORD": "two words; $HOME"})
    path = tmp_path / "start.sh"
    path.write_text(start_script(launch, 4).text)
    done = subprocess.run(["sh", str(path), "3"], capture_output=True, text=True, check=True)
    assert done.stdout == 'a b|$HOME|it\'s|3|"x"|([0]*1+[1]*3)|'
    assert launch.on(3)[5] == "3"
