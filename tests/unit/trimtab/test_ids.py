"""Identifiers sort by time and attempt references survive the round trip."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from trimtab.ids import AttemptRef, JobId, new_job_id, new_plan_id, unit_id

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_ids_sort_by_time_before_randomness() -> None:
    early = new_job_id(NOW, b"\xff" * 5)
    late = new_job_id(NOW + timedelta(milliseconds=1), b"\x00" * 5)
    assert early < late
    assert early.startswith("job_")
    assert len(early) == len(late) == len("job_") + 16


def test_ids_of_one_moment_differ_by_randomness() -> None:
    assert new_plan_id(NOW, b"\x00" * 5) != new_plan_id(NOW, b"\x00\x00\x00\x00\x01")


def test_too_little_randomness_is_refused() -> None:
    with pytest.raises(ValueError, match="5 bytes"):
        new_job_id(NOW, b"\x00")


def test_attempt_reference_round_trip() -> None:
    ref = AttemptRef(unit_id=unit_id(JobId("job_x"), 3), number=12)
    assert str(ref) == "job_x.u3.a12"
    assert AttemptRef.parse(str(ref)) == ref
    assert ref.job_id == "job_x"


@pytest.mark.parametrize("text", ["", "job_x.u0", "job_x.u0.a", "job_x.u0.a-1", "job_x.u0.ab"])
def test_other_text_is_no_attempt_reference(text: str) -> None:
    with pytest.raises(ValueError, match="attempt reference"):
        AttemptRef.parse(text)
