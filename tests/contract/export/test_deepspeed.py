"""DeepSpeed's own configuration class and launcher take the export, and its batch arithmetic gives the plan's."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from planner.export import Dimension, ExportCase, ExportTarget, refusals
from tests.contract.export.conftest import Laid
from tests.support.exporting import case
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute, Strategy

pytestmark = pytest.mark.runtime

_B = {"micro_batch": 2, "num_micro_batches": 4, "precision": Precision.BF16}
CASES = {
    "plain": Strategy(dp=4, micro_batch=3, num_micro_batches=4),
    "zero 1": Strategy(fsdp=8, zero_stage=1, offload=Offload.OPTIMIZER, **_B),
    "zero 2": Strategy(fsdp=8, zero_stage=2, **_B),
    "zero 3": Strategy(fsdp=8, zero_stage=3, recompute=Recompute.FULL, offload=Offload.ACTIVATIONS, **_B),
    "tensor": Strategy(fsdp=2, zero_stage=2, tp=4, **_B),
    "pipeline": Strategy(dp=2, pp=4, micro_batch=1, num_micro_batches=8, precision=Precision.FP16),
}


@pytest.fixture(params=list(CASES))
def found(request: pytest.FixtureRequest) -> ExportCase:
    """One of the cases, on two nodes where there are eight ranks."""
    strategy = CASES[request.param]
    return case(strategy, num_nodes=2 if strategy.world_size == 8 else 1)


def test_the_configuration_class_takes_it(found: ExportCase, laid: Laid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    import deepspeed.comm as dist
    from deepspeed.runtime.config import DeepSpeedConfig

    _, folder = laid(found, ExportTarget.DEEPSPEED)
    s = found.strategy
    # The ranks that see different samples, as its pipeline and tensor topologies tell it.
    topology = SimpleNamespace(get_data_parallel_world_size=lambda: s.world_size // (s.tp * s.pp))
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda *_: s.world_size)
    config: Any = DeepSpeedConfig(str(folder / "ds_config.json"), mpu=topology)
    assert config.world_size == s.data_ranks
    # Its own assertion: train batch = micro-batch x accumulation x world size.
    assert config.train_batch_size == s.global_batch
    assert (config.train_micro_batch_size_per_gpu, config.gradient_accumulation_steps) == (s.micro_batch, s.num_micro_batches)
    assert int(config.zero_optimization_stage) == s.zero_stage
    assert config.bfloat16_config.enabled == (s.precision is Precision.BF16)
    assert config.float16_config.enabled == (s.precision is Precision.FP16)
    offload = config.zero_config.offload_optimizer
    assert (offload is not None and offload.device == "cpu") == (s.offload is Offload.OPTIMIZER)
    assert config.activation_checkpointing_config.cpu_checkpointing == (s.offload is Offload.ACTIVATIONS)
    assert config.tensor_parallel_config.autotp_size == (s.tp if s.tp > 1 else 0)
    assert config.pipeline["stages"] == (s.pp if s.pp > 1 else "auto")


def test_a_batch_that_is_not_the_plans_would_be_refused(laid: Laid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    from deepspeed.runtime.config import DeepSpeedConfig

    found, _ = laid(case(CASES["zero 2"]), ExportTarget.DEEPSPEED)
    topology = SimpleNamespace(get_data_parallel_world_size=lambda: 4)
    import deepspeed.comm as dist

    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    with pytest.raises(AssertionError, match="train_batch_size is not equal"):
        DeepSpeedConfig(json.loads(found.file("ds_config.json").text), mpu=topology)


def test_the_launcher_takes_the_command_of_every_node(found: ExportCase, laid: Laid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    from deepspeed.launcher.runner import fetch_hostfile, parse_args

    written, folder = laid(found, ExportTarget.DEEPSPEED)
    for node in range(written.num_nodes):
        argv = written.launch.on(node)
        assert argv[0] == "deepspeed"
        args = parse_args(list(argv[1:]))
        assert args.user_script == "train.py"
        assert args.user_args == ["--deepspeed", "--deepspeed_config", "ds_config.json"]
        if written.num_nodes == 1:
            assert args.num_gpus == found.shape.devices_per_node
            continue
        assert (args.no_ssh, args.node_rank, args.master_addr) == (True, node, "localhost")
        slots = fetch_hostfile(str(folder / args.hostfile))
        assert list(slots.values()) == [found.shape.devices_per_node] * written.num_nodes


@pytest.mark.parametrize(
    ("strategy", "dimension"),
    [
        (Strategy(fsdp=2, zero_stage=3, cp=2), Dimension.CP),
        (Strategy(dp=2, fsdp=2, zero_stage=3), Dimension.DP),
        (Strategy(fsdp=2, zero_stage=3, pp=2, num_micro_batches=2), Dimension.ZERO_STAGE),
        (Strategy(pp=2, num_micro_batches=2, schedule=PipelineSchedule.GPIPE), Dimension.SCHEDULE),
        (Strategy(tp=2, sequence_parallel=True), Dimension.SEQUENCE_PARALLEL),
        (Strategy(precision=Precision.FP8), Dimension.PRECISION),
    ],
)
def test_what_it_cannot_express_is_refused_by_name(strategy: Strategy, dimension: Dimension) -> None:
    assert dimension in [refusal.dimension for refusal in refusals(case(strategy), ExportTarget.DEEPSPEED)]
