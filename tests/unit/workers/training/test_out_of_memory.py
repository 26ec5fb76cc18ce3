"""A failure for want of memory is known as one, however torch wraps it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from workers.training.main import is_out_of_memory

pytestmark = pytest.mark.runtime


@pytest.mark.parametrize("memory", [True, False])
def test_the_cause_of_a_failed_pipeline_stage_counts(memory: bool) -> None:
    cause = RuntimeError("DefaultCPUAllocator: can't allocate memory" if memory else "Connection reset by peer")
    failed = RuntimeError("Failed to run stage backward")
    failed.__cause__ = cause
    assert is_out_of_memory(failed) is memory
