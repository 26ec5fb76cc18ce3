from __future__ import annotations

from dataclasses import replace

import pytest

from planner.costs import predict
from tests.unit.planner.costs.models import DECODER, TRAIN, TRANSLATOR, context, workload
from trimtab.estimate import Origin
from trimtab.inventory import DeviceKind
from trimtab.model import ModelSpec
from trimtab.strategy import PipelineSchedule, Precision, Recompute, Strategy

STRATEGIES = [
    Strategy(micro_batch=8),
    Strategy(micro_batch=2, num_micro_batches=4, recompute=Recompute.FULL),
    Strategy(micro_batch=8, recompute=Recompute.SELECTIVE),
    Strategy(dp=2, micro_batch=4),
    Strategy(fsdp=2, zero_stage=3, micro_batch=4),
    Strategy(fsdp=2, zero_stage=1, micro_batch=2, num_micro_batches=2),
    Strategy(tp=2, micro_batch=8),
    Strategy(tp=2, sequence_parallel=True, micro_batch=8),
    Strategy(pp=2, micro_batch=2, num_micro_batches=4),
    Strategy(pp=4, micro_batch=2, num_micro_batches=4, schedule=PipelineSchedule.GPIPE),
    Strategy(dp=2, tp=2, pp=2, micro_batch=1, num_micro_batches=4),
]


@pytest.mark.parametrize("model", [DECODER, TRANSLATOR], ids=lambda model: model.name)
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.label())
@pytest.mark.parametrize("kind", list(DeviceKind))
def test_parts_add_up_and_every_number_has_an_interval_and_a_source(
    model: ModelSpec, strategy: Strategy, kind: DeviceKind
) -> None:
    found = predict(model=model, train=workload(model), strategy=strategy, context=context(strategy, kind=kind))
    assert sum(part.seconds for part in found.parts) == pytest.approx(found.step_s.value)
    assert 0.0 < found.step_s.low < found.step_s.value < found.step_s.high
    assert len(found.memory) == strategy.pp
    for memory in found.memory:
        parts = (
            memory.parameters_bytes,
            memory.gradients_bytes,
            memory.optimizer_bytes,
            memory.activations_bytes,
            memory.logits_bytes,
            memory.communication_bytes,
            memory.transient_bytes,
        )
        assert min(parts) >= 0.0
        assert sum(parts) == pytest.approx(memory.total_bytes.value)
    assert found.constants
    assert all(constant.source for constant in found.constants)
    assert len({constant.name for constant in found.constants}) == len(found.constants)


def step_s(strategy: Strategy, **more: object) -> float:
    return predict(model=DECODER, train=TRAIN, strategy=strategy, context=context(strategy, **more)).step_s.value  # type: ignore[arg-type]


def peak_bytes(strategy: Strategy) -> float:
    found = predict(model=DECODER, train=TRAIN, strategy=strategy, context=context(strategy))
    return max(memory.total_bytes.value for memory in found.memory)


def test_an_unknown_framework_is_named_with_what_is_allowed() -> None:
    strategy = STRATEGIES[0]
    with pytest.raises(ValueError, match="'other' is not known; allowed: trimtab"):
        predict(model=DECODER, train=TRAIN, strategy=strategy, context=replace(context(strategy), framework="other"))


def test_recompute_costs_time_and_saves_memory() -> None:
    plain, full = Strategy(micro_batch=8), Strategy(micro_batch=8, recompute=Recompute.FULL)
    selective = replace(full, recompute=Recompute.SELECTIVE)
    train = replace(TRAIN, sequence_length=2048)  # kernels outweigh what checkpointing itself costs
    times = [
        predict(model=DECODER, train=train, strategy=strategy, context=context(strategy)).step_s.value
        for strategy in (plain, selective, full)
    ]
    assert times[0] < times[1] < times[2] < 4 / 3 * 1.1 * times[0]
    assert peak_bytes(full) < peak_bytes(selective) < peak_bytes(plain)


def test_smaller_micro_batches_need_less_memory() -> None:
    assert peak_bytes(Strategy(micro_batch=2, num_micro_batches=4)) < peak_bytes(Strategy(micro_batch=8))


def test_sharding_divides_state() -> None:
    def state(strategy: Strategy) -> tuple[float, float]:
        memory = predict(model=DECODER, train=TRAIN, strategy=strategy, context=context(strategy)).memory[0]
        return memory.parameters_bytes, memory.optimizer_bytes

    whole = state(Strategy(dp=2, micro_batch=4))
    assert state(Strategy(fsdp=2, zero_stage=3, micro_batch=4)) == (whole[0] / 2, whole[1] / 2)


def test_gpipe_holds_all_micro_batches_and_1f1b_only_those_in_flight() -> None:
    one_by_one = Strategy(pp=2, micro_batch=1, num_micro_batches=8)
    assert peak_bytes(one_by_one) < peak_bytes(replace(one_by_one, schedule=PipelineSchedule.GPIPE))


def test_replicas_on_two_nodes_pay_for_the_network() -> None:
    strategy = Strategy(dp=2, micro_batch=4)
    assert step_s(strategy, devices_per_node=1) > step_s(strategy, devices_per_node=2)


def test_accelerators_hide_shard_communication_behind_computation() -> None:
    strategy = Strategy(fsdp=2, zero_stage=3, micro_batch=4)

    def shard_s(kind: DeviceKind) -> float:
        found = predict(model=DECODER, train=TRAIN, strategy=strategy, context=context(strategy, kind=kind))
        return next(part.seconds for part in found.parts if part.name == "shard communication")

    assert shard_s(DeviceKind.TPU) < shard_s(DeviceKind.CPU)


def test_without_a_probe_the_prediction_says_so() -> None:
    strategy = STRATEGIES[0]
    found = predict(model=DECODER, train=TRAIN, strategy=strategy, context=context(strategy))
    assert found.step_s.origin is Origin.ASSUMED
    assert "roofline" in found.step_s.source


def test_double_precision_doubles_state() -> None:
    memory = [
        predict(model=DECODER, train=TRAIN, strategy=strategy, context=context(strategy)).memory[0].parameters_bytes
        for strategy in (Strategy(micro_batch=8), Strategy(micro_batch=8, precision=Precision.FP64))
    ]
    assert memory[1] == 2 * memory[0]
