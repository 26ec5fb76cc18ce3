"""Time of checkpoints, restarts and input from the storage of the nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.costs import DeviceContext, predict
from planner.costs.constants import CHECKPOINT_BYTES_PER_S
from planner.costs.storage import whole_state_bytes
from planner.models.counts import model_parameters
from tests.unit.planner.costs.models import DECODER, TRAIN, context
from trimtab.estimate import Origin
from trimtab.inventory import DeviceKind, Storage
from trimtab.strategy import Strategy

ONE = Strategy(dp=1, micro_batch=8, num_micro_batches=1)
FOUR = Strategy(dp=4, micro_batch=2, num_micro_batches=1)
DISKS = Storage(
    local_read_bytes_per_s=4e6,
    local_write_bytes_per_s=2e6,
    network_read_bytes_per_s=1e6,
    network_write_bytes_per_s=5e5,
    source="assumed: disks",
    retrieved_on="2026-11-01",
)
STATE_BYTES = 3 * 4 * model_parameters(DECODER).total  # single precision: weight and two moments of AdamW


def on(where: DeviceContext, storage: Storage | None, *, of_pool: Storage | None = None) -> DeviceContext:
    return replace(where, device_type=replace(where.device_type, storage=storage), pool=replace(where.pool, storage=of_pool))


def test_without_known_storage_one_writing_process_is_assumed() -> None:
    found = predict(model=DECODER, train=TRAIN, strategy=ONE, context=context(ONE))
    assert found.checkpoint_s == pytest.approx(STATE_BYTES / CHECKPOINT_BYTES_PER_S.value)
    assert found.restart_read_s == found.checkpoint_s
    assert found.input_s == 0.0
    assert "checkpoint bandwidth" in {constant.name for constant in found.constants}


def test_one_node_uses_its_own_disks_and_several_the_network() -> None:
    one = predict(model=DECODER, train=TRAIN, strategy=FOUR, context=on(context(FOUR), DISKS))
    assert one.checkpoint_s == pytest.approx(STATE_BYTES / 2e6)
    assert one.restart_read_s == pytest.approx(STATE_BYTES / 4e6)
    assert one.input_s == pytest.approx(TRAIN.tokens_per_step * 4 / 4e6)
    two = predict(model=DECODER, train=TRAIN, strategy=FOUR, context=on(context(FOUR, devices_per_node=2), DISKS))
    assert two.checkpoint_s == pytest.approx(STATE_BYTES / (2 * 5e5))
    assert two.restart_read_s == pytest.approx(STATE_BYTES / (2 * 1e6))
    assert two.input_s == pytest.approx(TRAIN.tokens_per_step * 4 / (2 * 1e6))


def test_nodes_of_one_replica_read_the_same_samples() -> None:
    strategy = Strategy(pp=4, micro_batch=2, num_micro_batches=4)
    found = predict(model=DECODER, train=TRAIN, strategy=strategy, context=on(context(strategy, devices_per_node=1), DISKS))
    assert found.input_s == pytest.approx(TRAIN.tokens_per_step * 4 / 1e6)


def test_a_pool_goes_before_its_device_type_figure_by_figure() -> None:
    of_pool = Storage(local_write_bytes_per_s=8e6, source="inventory.yaml: measured with fio", retrieved_on="2026-11-02")
    found = predict(model=DECODER, train=TRAIN, strategy=ONE, context=on(context(ONE), DISKS, of_pool=of_pool))
    assert found.checkpoint_s == pytest.approx(STATE_BYTES / 8e6)
    assert found.restart_read_s == pytest.approx(STATE_BYTES / 4e6)
    origins = {constant.name: (constant.origin, constant.source) for constant in found.constants}
    write = origins["device node, own disks, write"]
    assert write == (Origin.MEASURED, "inventory.yaml: measured with fio, 2026-11-02")
    assert origins["device node, own disks, read"] == (Origin.ASSUMED, "assumed: disks, 2026-11-01")


def test_what_is_not_known_locally_is_read_over_the_network() -> None:
    shared = replace(DISKS, local_read_bytes_per_s=None, local_write_bytes_per_s=None)
    found = predict(model=DECODER, train=TRAIN, strategy=ONE, context=on(context(ONE), shared))
    assert found.checkpoint_s == pytest.approx(STATE_BYTES / 5e5)


@pytest.mark.parametrize(
    "strategy",
    [
        ONE,
        FOUR,
        Strategy(fsdp=4, zero_stage=3, micro_batch=2, num_micro_batches=1),
        Strategy(tp=2, fsdp=2, zero_stage=3, micro_batch=4, num_micro_batches=1),
    ],
)
def test_the_state_is_counted_once_however_it_is_split(strategy: Strategy) -> None:
    found = predict(model=DECODER, train=TRAIN, strategy=strategy, context=context(strategy))
    norms = 2 * DECODER.hidden_size * (2 * DECODER.num_layers + 1)  # what tensor-parallel ranks hold whole
    assert whole_state_bytes(strategy, found.memory) == pytest.approx(STATE_BYTES, abs=3 * 4 * norms * (strategy.tp - 1))


def test_input_that_takes_longer_than_a_step_makes_it_wait() -> None:
    slow = replace(DISKS, local_read_bytes_per_s=10.0)
    found = predict(model=DECODER, train=TRAIN, strategy=ONE, context=on(context(ONE), slow))
    assert found.step_s.value == pytest.approx(found.input_s) == pytest.approx(TRAIN.tokens_per_step * 4 / 10)
    assert found.parts[-1].name == "wait for input"
    assert sum(part.seconds for part in found.parts) == pytest.approx(found.step_s.value)


def test_the_fixed_cost_is_the_sum_of_its_parts() -> None:
    found = predict(model=DECODER, train=TRAIN, strategy=ONE, context=on(context(ONE), DISKS))
    assert sum(part.seconds for part in found.fixed_parts) == pytest.approx(found.fixed_s.value)
    named = {part.name: part.seconds for part in found.fixed_parts}
    assert named["last checkpoint"] == found.checkpoint_s
    assert named["first input"] == found.input_s


def test_the_device_types_network_serves_where_the_pool_names_none() -> None:
    strategy = Strategy(dp=4, micro_batch=2, num_micro_batches=1)
    usual = context(strategy, kind=DeviceKind.GPU, devices_per_node=2)
    link = usual.pool.network
    assert link is not None
    unnamed = replace(usual, pool=replace(usual.pool, network=None))
    named = replace(unnamed, device_type=replace(unnamed.device_type, network=link))
    seconds = [predict(model=DECODER, train=TRAIN, strategy=strategy, context=c).step_s.value for c in (usual, named, unnamed)]
    assert seconds[0] == pytest.approx(seconds[1])
    assert seconds[2] < seconds[1], "without any the constant of 25 GB/s serves, and this one has 0.1"
