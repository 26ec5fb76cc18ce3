"""What the planner says of memory, against the trainer under a limit that the kernel enforces."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.memory_exhaustion import FAMILIES, Bench, Family, small_model
from trimtab.plan import FitVerdict

pytestmark = [
    pytest.mark.runtime,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds allocations on Linux alone"),
]
LIMIT_BYTES = 1 << 30


@pytest.mark.parametrize("family", [FAMILIES[0], FAMILIES[1]], ids=lambda family: family.name)
@pytest.mark.parametrize(("size", "said", "runs"), [(1, FitVerdict.FITS, True), (400, FitVerdict.DOES_NOT_FIT, False)])
def test_what_fits_runs_and_what_does_not_really_fails(
    family: Family, size: int, said: FitVerdict, runs: bool, tmp_path: Path
) -> None:
    bench = Bench(small_model(2), LIMIT_BYTES, tmp_path)
    found = bench.run(family, size)
    assert found.verdict is said
    assert found.ran is runs
    assert found.resident_peak_bytes <= 1.02 * LIMIT_BYTES  # file-backed pages do not count
