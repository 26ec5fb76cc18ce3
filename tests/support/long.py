"""The long form of a test: ``make long`` sets TRIMTAB_LONG=1 and a seed that its log names."""

from __future__ import annotations

import os

LONG = os.environ.get("TRIMTAB_LONG") == "1"
SEED = int(os.environ.get("TRIMTAB_SEED", "7"))
"""The same in every short run; drawn anew by ``make long``."""


def in_long_form(short: int, long: int) -> int:
    """``short`` in the suite, ``long`` under ``make long``."""
    return long if LONG else short
