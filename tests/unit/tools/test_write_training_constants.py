"""The page of fitted constants is made from them and is current."""

from __future__ import annotations

from planner.training.constants import fitted_constants
from planner.training.profiles import PROFILES
from tools import write_training_constants


def test_the_page_is_current() -> None:
    page = write_training_constants.PAGE.read_text(encoding="utf-8")
    assert page == write_training_constants.page(), "run python tools/write_training_constants.py"


def test_every_constant_and_profile_stands_on_it() -> None:
    text = write_training_constants.page()
    constants = fitted_constants()
    for name in [*constants.shared, *constants.frameworks, *constants.devices, *PROFILES]:
        assert f"| `{name}` |" in text
