"""What a process gives back to the kernel, counted by the kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import resource, sys
from workers.host_memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else True
bytearray(64 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(64 << 20)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(mode: str) -> tuple[bool, int]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, mode], cwd=ROOT, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


def test_freed_memory_is_used_again_without_new_pages() -> None:
    kept, faults = new_pages("keep")
    if not kept:
        pytest.skip("the C library has no mallopt")
    assert faults < 1000
    assert new_pages("leave")[1] > 20 * 1000
