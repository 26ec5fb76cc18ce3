"""What holds of every set of measured runs."""

from __future__ import annotations

import math
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from planner.training.calibration import calibrate
from tests.support.measurements import BEGAN, measured
from trimtab.estimate import Estimate, Origin
from trimtab.measurement import StepMeasurement
from trimtab.wire import dumps, loads

NOW = BEGAN + timedelta(days=10)


@st.composite
def runs(draw: st.DrawFn) -> list[StepMeasurement]:
    """Runs of one key with distinct sources, whatever they measured."""
    number = draw(st.integers(1, 12))
    return [
        measured(
            draw(st.floats(0.01, 100.0)),
            n,
            num_steps=draw(st.integers(1, 50)),
            spread=draw(st.floats(1e-4, 0.6)),
            step_spread_frac=draw(st.floats(0.0, 1.0)),
        )
        for n in range(number)
    ]


PRIORS = st.floats(0.01, 1.0)


@given(runs(), PRIORS, st.randoms(use_true_random=False))
def test_the_order_of_runs_does_not_matter(found: list[StepMeasurement], prior: float, random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert calibrate(shuffled, prior_spread=prior, now=NOW) == calibrate(found, prior_spread=prior, now=NOW)


@given(runs(), PRIORS)
def test_the_multiplier_lies_between_the_prior_and_the_runs(found: list[StepMeasurement], prior: float) -> None:
    made = calibrate(found, prior_spread=prior, now=NOW)
    logs = [math.log(entry.ratio) for entry in found]
    assert min(0.0, *logs) - 1e-12 <= made.log_multiplier <= max(0.0, *logs) + 1e-12


@given(runs(), PRIORS, st.floats(0.001, 0.9))
def test_more_runs_never_widen_while_they_do_not_contradict_each_other(
    found: list[StepMeasurement], prior: float, half_width: float
) -> None:
    raw = Estimate.within(3.0, half_width, origin=Origin.ASSUMED)
    width, spread = raw.log_spread, prior
    for number in range(1, len(found) + 1):
        made = calibrate(found[:number], prior_spread=prior, now=NOW)
        estimate = made.apply(raw)
        if made.scatter:
            assert estimate.log_spread >= made.scatter - 1e-12
            break
        assert made.spread <= spread
        assert estimate.log_spread <= width + 1e-12
        assert estimate.low <= estimate.value <= estimate.high
        width, spread = estimate.log_spread, made.spread


@given(st.floats(0.5, 2.0), st.integers(1, 30), PRIORS)
def test_equal_runs_come_ever_closer_to_what_they_measured(ratio: float, number: int, prior: float) -> None:
    fewer, more = (
        calibrate([measured(ratio, n) for n in range(count)], prior_spread=prior, now=NOW) for count in (number, number + 1)
    )
    goal = math.log(ratio)
    assert abs(more.log_multiplier - goal) <= abs(fewer.log_multiplier - goal) + 1e-12
    assert not more.outliers


@given(runs())
def test_runs_survive_the_wire(found: list[StepMeasurement]) -> None:
    assert [loads(StepMeasurement, dumps(entry)) for entry in found] == found
