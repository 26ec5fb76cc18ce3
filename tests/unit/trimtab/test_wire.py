"""The wire form: round trips, and clear refusals that name the path."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from trimtab import wire
from trimtab.estimate import Estimate, Origin
from trimtab.ids import AttemptRef, UnitId
from trimtab.lifecycle import ReleaseReason
from trimtab.orders import ExitNote, Progress, ReportKind, RunReport
from trimtab.strategy import Precision, Strategy

REPORT = RunReport(
    attempt=AttemptRef(unit_id=UnitId("job_x.u0"), number=2),
    sequence=7,
    kind=ReportKind.EXITED,
    at=datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC),
    exit=ExitNote(reason=ReleaseReason.COMPLETED),
    summary={"loss": 3.25},
)


def test_round_trip_of_nested_values() -> None:
    assert wire.loads(RunReport, wire.dumps(REPORT)) == REPORT
    strategy = Strategy(dp=2, pp=2, stage_layers=(3, 2), precision=Precision.BF16)
    assert wire.loads(Strategy, wire.dumps(strategy)) == strategy


def test_equal_values_give_equal_bytes() -> None:
    again = wire.loads(RunReport, wire.dumps(REPORT))
    assert wire.dumps(again) == wire.dumps(REPORT)


def test_non_finite_numbers_travel() -> None:
    progress = Progress(step=1, num_steps=2, loss=math.inf, tokens_per_s=0.0, step_s=0.1, num_samples=1)
    assert wire.loads(Progress, wire.dumps(progress)) == progress
    text = wire.dumps(Progress(step=1, num_steps=2, loss=math.nan, tokens_per_s=0.0, step_s=0.1, num_samples=1))
    assert math.isnan(wire.loads(Progress, text).loss)


def test_unknown_keys_are_ignored_so_that_versions_may_differ() -> None:
    data = wire.encode(REPORT)
    data["added_later"] = 1
    assert wire.decode(RunReport, data) == REPORT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence": "7"}, r"RunReport\.sequence: expected int, found str"),
        ({"sequence": True}, r"RunReport\.sequence: expected int, found bool"),
        ({"kind": "gone"}, r"RunReport\.kind: 'gone' is not one of"),
        ({"attempt": []}, r"RunReport\.attempt: expected an object"),
        ({"attempt": {"unit_id": "u"}}, r"RunReport\.attempt\.number: missing"),
        ({"at": "yesterday"}, r"RunReport\.at: 'yesterday' is no ISO 8601 time"),
        ({"at": "2026-11-24T01:02:03"}, "has no time zone"),
        ({"summary": {"loss": "high"}}, r"RunReport\.summary\.loss: expected float"),
        ({"exit": {"reason": "completed", "rank": 1.5}}, r"RunReport\.exit\.rank: expected int"),
    ],
)
def test_wrong_shapes_are_refused_with_their_path(change: dict[str, object], message: str) -> None:
    with pytest.raises(wire.WireError, match=message):
        wire.decode(RunReport, {**wire.encode(REPORT), **change})


def test_a_value_that_checks_itself_is_refused_on_the_wire_too() -> None:
    with pytest.raises(wire.WireError, match="degrees"):
        wire.decode(Strategy, {"dp": 0})


def test_types_that_cannot_travel_are_a_bug() -> None:
    with pytest.raises(TypeError, match="set"):
        wire.encode({"x": {1, 2}})


def test_an_estimate_keeps_its_value_inside_its_interval() -> None:
    estimate = Estimate.within(-2.0, 0.5, origin=Origin.ASSUMED)
    assert (estimate.low, estimate.high) == (-3.0, -1.0)
    with pytest.raises(ValueError, match="outside"):
        Estimate(value=1.0, low=2.0, high=3.0, origin=Origin.MEASURED)
