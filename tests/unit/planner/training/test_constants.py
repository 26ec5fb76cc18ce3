"""The file of fitted constants: complete, inside its bounds, and no larger than it may be."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from planner.devices.catalogue import catalogue
from planner.training.constants import DEVICE_NAMES, FILE, FRAMEWORK_NAMES, fitted_constants, read_constants
from planner.training.profiles import PROFILES
from trimtab.errors import SpecError
from trimtab.estimate import Origin


def test_no_more_constants_than_allowed() -> None:
    constants = fitted_constants()
    assert len(constants.shared) <= 40
    assert all(set(held) == set(FRAMEWORK_NAMES) for held in constants.frameworks.values())
    assert len(FRAMEWORK_NAMES) <= 4
    assert all(set(held) <= set(DEVICE_NAMES) for held in constants.devices.values())
    assert len(DEVICE_NAMES) <= 3


def test_every_constant_has_a_meaning_a_unit_and_bounds() -> None:
    constants = fitted_constants()
    used = set(constants.shared) | set(FRAMEWORK_NAMES) | set(DEVICE_NAMES)
    assert used == set(constants.quantities)
    for name, entry in constants.quantities.items():
        assert entry.meaning, name
        assert entry.unit, name
        assert 0.0 <= entry.low < entry.high, name


def test_every_profile_and_every_device_has_constants() -> None:
    constants = fitted_constants()
    assert set(PROFILES) == set(constants.frameworks)
    for name in catalogue():
        held, _ = constants.device(str(name), "bf16")
        assert set(held) == set(DEVICE_NAMES)


def test_a_device_that_was_never_fitted_says_so() -> None:
    constants = fitted_constants()
    _, fitted = constants.device("H100-SXM5-80GB", "bf16")
    unknown, guessed = constants.device("a device of tomorrow", "fp8")
    assert fitted
    assert not guessed
    assert unknown == constants.devices["any"]
    origins = Counter(entry.origin for entry in constants.listed("megatron", "a device of tomorrow", "bf16"))
    assert origins[Origin.ASSUMED] == len(DEVICE_NAMES)


def test_an_unknown_framework_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(SpecError, match="megatron-bridge"):
        fitted_constants().framework("megatorn")


def test_a_constant_outside_its_bounds_is_refused(tmp_path: Path) -> None:
    document = json.loads(FILE.read_text(encoding="utf-8"))
    document["global"]["gpu_link_share"] = 1.5
    path = tmp_path / "constants.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ValueError, match="gpu_link_share"):
        read_constants(path)
