"""What a rank holds beside its tensors, and what that does to the verdict."""

from __future__ import annotations

import pytest

from planner.candidates.predict import highest_bytes, lowest_bytes, needed_bytes, verdict
from planner.costs import predict
from planner.costs.constants import COMPILER_BYTES, HEAP_HOLES_FRAC, RECOMPUTE_HEAP_HOLES_FRAC, RESIDENT_BYTES
from tests.unit.planner.costs.models import DECODER, TRAIN, context
from trimtab.inventory import DeviceKind
from trimtab.plan import FitVerdict, RankMemory
from trimtab.strategy import Recompute, Strategy

CPU, GPU = DeviceKind.CPU, DeviceKind.GPU


def memory(strategy: Strategy, kind: DeviceKind) -> RankMemory:
    return predict(model=DECODER, train=TRAIN, strategy=strategy, context=context(strategy, kind=kind)).memory[0]


@pytest.mark.parametrize(
    ("strategy", "kind", "compiler"),
    [
        (Strategy(micro_batch=8), CPU, False),
        (Strategy(micro_batch=8, recompute=Recompute.FULL), CPU, True),
        (Strategy(micro_batch=8, recompute=Recompute.SELECTIVE), CPU, True),
        (Strategy(micro_batch=4, dp=2), CPU, True),
        (Strategy(micro_batch=8, tp=2), CPU, True),
        (Strategy(micro_batch=8, recompute=Recompute.FULL), GPU, False),
        (Strategy(micro_batch=4, dp=2), GPU, False),
    ],
    ids=lambda value: value.label() if isinstance(value, Strategy) else str(value),
)
def test_host_processes_hold_the_compiler_where_torch_imports_it(strategy: Strategy, kind: DeviceKind, compiler: bool) -> None:
    expected = RESIDENT_BYTES[kind].value + (COMPILER_BYTES.value if compiler else 0.0)
    assert memory(strategy, kind).resident_bytes == expected


def test_holes_are_a_share_of_what_comes_and_goes_in_a_host_heap() -> None:
    one = memory(Strategy(micro_batch=8), CPU)
    comes_and_goes = one.total_bytes.value - one.parameters_bytes - one.optimizer_bytes
    assert one.allocator_bytes.value == pytest.approx(HEAP_HOLES_FRAC.value * comes_and_goes)
    assert one.allocator_bytes.low == pytest.approx(HEAP_HOLES_FRAC.low * comes_and_goes)
    assert one.allocator_bytes.high == pytest.approx(HEAP_HOLES_FRAC.high * comes_and_goes)
    assert memory(Strategy(micro_batch=8), GPU).allocator_bytes.high == 0.0


def test_recompute_leaves_more_holes_of_less() -> None:
    one = memory(Strategy(micro_batch=8, recompute=Recompute.FULL), CPU)
    comes_and_goes = one.total_bytes.value - one.parameters_bytes - one.optimizer_bytes
    assert one.allocator_bytes.value == pytest.approx(RECOMPUTE_HEAP_HOLES_FRAC.value * comes_and_goes)


def test_the_verdict_counts_holes_and_process() -> None:
    one = memory(Strategy(micro_batch=8), CPU)
    assert lowest_bytes(one) < needed_bytes(one) < highest_bytes(one)
    assert highest_bytes(one) > one.total_bytes.high + one.resident_bytes
    assert verdict([one], highest_bytes(one)) is FitVerdict.FITS
    assert verdict([one], highest_bytes(one) - 1.0) is FitVerdict.TIGHT
    assert verdict([one], lowest_bytes(one)) is FitVerdict.TIGHT
    assert verdict([one], lowest_bytes(one) - 1.0) is FitVerdict.DOES_NOT_FIT
