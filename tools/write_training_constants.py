"""Writes ``docs/training-constants.md`` from the fitted constants and the framework profiles of the training cost model.

``python tools/write_training_constants.py`` writes the page, with ``--check`` it only says whether the page is current.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from planner.training.constants import DEVICE_NAMES, FRAMEWORK_NAMES, FittedConstants, fitted_constants
from planner.training.profiles import PROFILES
from tools.pages import write_or_check

PAGE = Path(__file__).resolve().parents[1] / "docs" / "training-constants.md"
_INTRODUCTION = """\
# Fitted constants of the training cost model

This page is made from `planner/training/constants.json` and `profiles.py` beside it by `tools/write_training_constants.py`;
a test checks that it is current. [training-model.md](training-model.md) has the formulas that use them.
"""


def page() -> str:
    """The whole page."""
    constants = fitted_constants()
    parts = [_INTRODUCTION, f"They were {constants.source}.\n", "## For everything\n", _shared(constants)]
    parts += ["## By framework\n", _meanings(constants, FRAMEWORK_NAMES), _table(constants.frameworks, FRAMEWORK_NAMES)]
    parts += ["## By device family and precision\n", _meanings(constants, DEVICE_NAMES), _table(constants.devices, DEVICE_NAMES)]
    parts += [_FAMILIES, _families(constants), "## Framework profiles\n", _profiles()]
    return "\n".join(parts)


_FAMILIES = """\
A precision that a family has no row for takes the family's row of 16-bit arithmetic, a family without rows the row `any` (the
medians); both are marked *assumed* in a plan. Device types of each family:
"""


def _shared(constants: FittedConstants) -> str:
    rows = [
        (
            f"`{name}`",
            f"{value:.4g}",
            constants.quantities[name].unit,
            _bounds(constants, name),
            constants.quantities[name].meaning,
        )
        for name, value in constants.shared.items()
    ]
    return _markdown(("Constant", "Value", "Unit", "Bounds", "Meaning"), rows)


def _meanings(constants: FittedConstants, names: Iterable[str]) -> str:
    rows = [
        (f"`{name}`", constants.quantities[name].unit, _bounds(constants, name), constants.quantities[name].meaning)
        for name in names
    ]
    return _markdown(("Constant", "Unit", "Bounds", "Meaning"), rows)


def _bounds(constants: FittedConstants, name: str) -> str:
    entry = constants.quantities[name]
    return f"{entry.low:.3g} to {entry.high:.3g}"


def _table(holders: Mapping[str, Mapping[str, float]], names: tuple[str, ...]) -> str:
    rows = [(f"`{key}`", *(f"{held[name]:.4g}" if name in held else "" for name in names)) for key, held in holders.items()]
    return _markdown(("", *names), rows)


def _families(constants: FittedConstants) -> str:
    families: dict[str, list[str]] = {}
    for device, family in constants.families.items():
        families.setdefault(family, []).append(device)
    return _markdown(("Family", "Device types"), [(name, ", ".join(sorted(own))) for name, own in sorted(families.items())])


def _profiles() -> str:
    rows = [
        (
            f"`{name}`",
            profile.about,
            "fused" if profile.fused_attention else "scores in memory",
            f"{profile.gradient_bytes:g} / {profile.held_gradient_bytes:g}",
            f"{profile.logit_bytes:g}",
            f"{profile.memory_error_frac:.0%}",
        )
        for name, profile in PROFILES.items()
    ]
    heads = ("Profile", "What it is", "Attention", "Gradient bytes, sent / held", "Logit bytes", "Memory, ±")
    return _markdown(heads, rows)


def _markdown(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = tuple(heads)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def main() -> int:
    """Write the page or check it; returns the exit status for the shell."""
    parser = argparse.ArgumentParser(description="Write docs/training-constants.md.")
    parser.add_argument("--check", action="store_true", help="write nothing, say whether the page is current")
    return write_or_check(PAGE, page(), script="write_training_constants.py", check=parser.parse_args().check)


if __name__ == "__main__":
    sys.exit(main())
