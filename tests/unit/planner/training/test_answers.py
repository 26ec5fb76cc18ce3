"""What is made of predicted numbers: exchanges over links and network, verdicts, intervals, jobs on unlike devices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.devices.catalogue import catalogue
from planner.strategies.table import StrategyTable
from planner.training.constants import fitted_constants
from planner.training.evaluate import Job, question_of
from planner.training.groups import RankSet, Wires, exchange_s, gather_s, group, reduce_s
from planner.training.mixed import MixedStage, mixed_step
from planner.training.places import place_arrays
from planner.training.profiles import profile_of
from planner.training.spread import INTERVAL80, Doubt, interval, log_spread
from planner.training.step import Question, slot_time
from planner.training.verdict import USABLE_FRAC, judge
from tests.support.planning import LLAMA_8B
from trimtab.plan import FitVerdict
from trimtab.strategy import Precision, Strategy

GIB = 1 << 30


def wires(devices_per_node: int = 8) -> Wires:
    knobs = fitted_constants().knobs(["megatron"], [("H100-SXM5-80GB", "bf16")])
    return Wires(place=place_arrays(catalogue()["H100-SXM5-80GB"], devices_per_node=devices_per_node), knobs=knobs)


def ranks(size: int, stride: int = 1) -> RankSet:
    return group(np.array([float(size)]), np.array([float(stride)]), wires().place)


def test_ranks_fill_a_domain_from_the_inside_out() -> None:
    assert float(ranks(4).inside[0]) == 4
    assert float(ranks(16).inside[0]) == 8
    assert float(ranks(16, stride=4).inside[0]) == 2
    assert float(ranks(16, stride=8).outside[0]) == 16


def test_volumes_of_rings() -> None:
    """(n-1)/n of the tensor for a gather, twice that for an all-reduce, whatever the latency adds."""
    volume, eight = np.array([8e9]), ranks(8)
    expected = 7 / 8 * 8e9 / float(wires().link[0])
    assert float(gather_s(volume, eight, wires())[0]) == pytest.approx(expected, rel=0.01)
    assert float(reduce_s(volume, eight, wires())[0]) == pytest.approx(2 * expected, rel=0.01)
    across = ranks(2, stride=8)
    assert float(gather_s(volume, across, wires())[0]) == pytest.approx(0.5 * 8e9 / float(wires().network[0]), rel=0.01)


def test_a_single_rank_exchanges_nothing() -> None:
    alone, volume = ranks(1), np.array([1e9])
    assert float(gather_s(volume, alone, wires())[0]) == 0.0
    assert float(reduce_s(volume, alone, wires())[0]) == 0.0
    assert float(exchange_s(volume, alone, wires(), outer_share=np.array([1.0]))[0]) == 0.0


def test_messages_to_more_ranks_start_later() -> None:
    tiny = np.array([8.0])
    assert float(gather_s(tiny, ranks(1024), wires())[0]) > 10 * float(gather_s(tiny, ranks(64), wires())[0])


@pytest.mark.parametrize(
    ("peak_gib", "expected"), [(60.0, FitVerdict.FITS), (76.0, FitVerdict.TIGHT), (90.0, FitVerdict.DOES_NOT_FIT)]
)
def test_verdicts(peak_gib: float, expected: FitVerdict) -> None:
    profile = profile_of("megatron")
    found = judge(peak_gib * GIB, 80.0 * GIB, profile=profile)
    assert found.fit is expected
    assert found.low_bytes < peak_gib * GIB < found.high_bytes
    edge = 80.0 * GIB * USABLE_FRAC / (1.0 + profile.memory_error_frac)
    assert judge(edge * 0.999, 80.0 * GIB, profile=profile).fit is FitVerdict.FITS
    assert judge(edge * 1.001, 80.0 * GIB, profile=profile).fit is FitVerdict.TIGHT


def test_no_capacity_no_verdict() -> None:
    assert judge(1.0, 0.0, profile=profile_of("megatron")).fit is None


def test_doubts_widen_intervals_and_measured_rows_narrow_them() -> None:
    shared = fitted_constants().shared
    plain = Doubt(has_experts=False, is_guessed=False, waiting_frac=0.1)
    raw, one, three = (log_spread(plain, shared, num_measured=n) for n in (0, 1, 3))
    assert raw > one > three > 0.0
    assert log_spread(replace(plain, is_guessed=True), shared, num_measured=3) > three
    assert log_spread(replace(plain, waiting_frac=0.6), shared, num_measured=3) > three
    low, high = interval(10.0, 0.1)
    assert low * high == pytest.approx(100.0)
    assert high / 10.0 == pytest.approx(np.exp(0.1 * INTERVAL80))


def question(device: str, *, layers: float = 16.0) -> Question:
    strategy = Strategy(tp=2, pp=2, num_micro_batches=8, precision=Precision.FP16)
    asked = question_of(
        Job(model=LLAMA_8B, sequence_length=2048),
        StrategyTable.of([strategy]),
        place_arrays(catalogue()[device], devices_per_node=8),
        device_type=device,
        profile=profile_of("megatron"),
        constants=fitted_constants(),
    )
    return replace(asked, stage_layers=np.array([layers]))


def test_a_mixed_job_runs_at_the_pace_of_its_slowest_stage() -> None:
    fast, slow = "H100-SXM5-80GB", "A100-SXM4-80GB"
    even = mixed_step([MixedStage(replicas=(question(name),)) for name in (fast, slow)])
    moved = mixed_step([MixedStage(replicas=(question(name, layers=layers),)) for name, layers in ((fast, 22.0), (slow, 10.0))])
    floor = 8 * 16.0 * float(slot_time(question(slow)).layer_s[0])
    assert even.step_s > floor
    assert moved.step_s < even.step_s


def test_a_slow_replica_holds_its_stage_up() -> None:
    alone = mixed_step([MixedStage(replicas=(question("H100-SXM5-80GB", layers=32.0),))])
    both = (question("H100-SXM5-80GB", layers=32.0), question("A100-SXM4-80GB", layers=32.0))
    assert mixed_step([MixedStage(replicas=both)]).step_s > 1.5 * alone.step_s
