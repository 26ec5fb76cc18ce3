"""torchtitan's own reader takes the job file, and by its own arithmetic it is the plan."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from planner.export import ExportCase, ExportTarget
from planner.models import model_parameters
from tests.contract.export.conftest import Laid
from tests.support.exporting import LLAMA_3, SMALL, case, with_experts
from trimtab.strategy import PipelineSchedule, Precision, Recompute, Strategy

pytestmark = pytest.mark.runtime

_B = {"micro_batch": 2, "num_micro_batches": 4, "precision": Precision.BF16}
CASES = {
    "ddp": (SMALL, Strategy(dp=4, **_B)),
    "fsdp": (SMALL, Strategy(fsdp=8, zero_stage=3, recompute=Recompute.SELECTIVE, **_B)),
    "hsdp, zero 2, tensor": (SMALL, Strategy(dp=2, fsdp=2, zero_stage=2, tp=4, sequence_parallel=True, **_B)),
    "context": (SMALL, Strategy(fsdp=2, zero_stage=3, cp=2, tp=2, recompute=Recompute.FULL, **_B)),
    "pipeline": (SMALL, Strategy(fsdp=2, zero_stage=3, pp=2, **_B)),
    "uneven pipeline": (SMALL, Strategy(fsdp=2, zero_stage=3, pp=2, stage_layers=(5, 3), **_B)),
    "gpipe": (SMALL, Strategy(pp=2, schedule=PipelineSchedule.GPIPE, micro_batch=2, num_micro_batches=4)),
    "interleaved": (
        SMALL,
        Strategy(fsdp=2, zero_stage=3, pp=2, virtual_stages=2, schedule=PipelineSchedule.INTERLEAVED, **_B),
    ),
    "zero bubble": (SMALL, Strategy(fsdp=2, zero_stage=3, pp=2, schedule=PipelineSchedule.ZERO_BUBBLE, **_B)),
    "experts": (with_experts(), Strategy(fsdp=4, zero_stage=3, ep=4, tp=2, sequence_parallel=True, **_B)),
    "expert tensor": (with_experts(), Strategy(fsdp=4, zero_stage=3, ep=2, etp=2, tp=2, sequence_parallel=True, **_B)),
    "fp8": (LLAMA_3, Strategy(fsdp=8, zero_stage=3, precision=Precision.FP8)),
    "mxfp8": (LLAMA_3, Strategy(fsdp=8, zero_stage=3, precision=Precision.MXFP8)),
}


@pytest.fixture(params=list(CASES))
def found(request: pytest.FixtureRequest) -> ExportCase:
    """One of the cases."""
    model, strategy = CASES[request.param]
    return case(strategy, model=model, num_nodes=2 if strategy.world_size > 4 else 1)


@pytest.fixture
def clean_flavours() -> Iterator[None]:
    """Registered flavours are taken out again."""
    from torchtitan.models.llama3 import llama3_args
    from torchtitan.models.qwen3 import qwen3_args

    before = dict(llama3_args), dict(qwen3_args)
    path = list(sys.path)
    yield
    for table, kept in zip((llama3_args, qwen3_args), before, strict=True):
        table.clear()
        table.update(kept)
    sys.modules.pop("trimtab_flavour", None)
    sys.path[:] = path


def read(case: ExportCase, laid: Laid) -> Any:
    """The job config as torchtitan reads it."""
    from torchtitan.config import ConfigManager

    export, folder = laid(case, ExportTarget.TORCHTITAN)
    argv = export.launch.argv[export.launch.argv.index("torchtitan.train") + 1 :]
    assert argv == ("--job.config_file", "torchtitan.toml")
    return ConfigManager().parse_args([argv[0], str(folder / argv[1])])


def test_degrees_and_batches_are_those_of_the_plan(found: ExportCase, laid: Laid) -> None:
    from torchtitan.distributed import ParallelDims

    config, s = read(found, laid), found.strategy
    p, t = config.parallelism, config.training
    dims = ParallelDims(
        dp_replicate=p.data_parallel_replicate_degree,
        dp_shard=p.data_parallel_shard_degree,
        cp=p.context_parallel_degree,
        tp=p.tensor_parallel_degree,
        pp=p.pipeline_parallel_degree,
        ep=p.expert_parallel_degree,
        etp=p.expert_tensor_parallel_degree,
        world_size=s.world_size,
    )
    assert (dims.dp_replicate, dims.dp_shard, dims.cp, dims.tp, dims.pp, dims.ep) == (s.dp, s.fsdp, s.cp, s.tp, s.pp, s.ep)
    assert t.seq_len % dims.seq_len_divisor == 0
    # train.py: the accumulation is global batch / (local batch x data ranks); a pipeline cuts the local batch into micro-batches.
    accumulation, rest = divmod(t.global_batch_size, t.local_batch_size * s.data_ranks)
    assert rest == 0
    assert t.global_batch_size == s.global_batch
    if s.pp > 1:
        assert accumulation == 1
        assert t.local_batch_size == p.pipeline_parallel_microbatch_size * s.num_micro_batches
        assert p.pipeline_parallel_microbatch_size == s.micro_batch
    else:
        assert (accumulation, t.local_batch_size) == (s.num_micro_batches, s.micro_batch)


def test_sharding_recompute_and_precision_are_those_of_the_plan(found: ExportCase, laid: Laid) -> None:
    from torchtitan.config import TORCH_DTYPE_MAP

    config, s = read(found, laid), found.strategy
    assert config.parallelism.fsdp_reshard_after_forward == ("never" if s.zero_stage == 2 else "always")
    assert config.activation_checkpoint.mode == str(s.recompute)
    kept = TORCH_DTYPE_MAP[config.training.mixed_precision_param]
    assert str(kept) == ("torch.float32" if s.precision is Precision.FP32 else "torch.bfloat16")
    converter = {Precision.FP8: "quantize.linear.float8", Precision.MXFP8: "quantize.linear.mx"}.get(s.precision)
    assert config.model.converters == ([converter] if converter else [])
    if converter:
        from torchtitan.components.quantization import float8, mx  # noqa: F401  (they register the converters)
        from torchtitan.protocols.model_converter import _registry_model_converter_cls as registry

        assert converter in registry


def test_pipeline_stages_hold_the_planned_layers(found: ExportCase, laid: Laid) -> None:
    from torch.distributed.pipelining.schedules import PipelineScheduleMulti, get_schedule_class

    config, s = read(found, laid), found.strategy
    parts = config.parallelism.module_fqns_per_model_part
    if s.pp == 1:
        assert parts is None
        return
    assert len(parts) == s.pp * s.virtual_stages
    assert [sum(name.startswith("layers.") for name in part) for part in parts] == list(found.stage_layers)
    names = [name for part in parts for name in part]
    assert names == ["tok_embeddings", *(f"layers.{n}" for n in range(found.model.num_layers)), "norm", "output"]
    looped = issubclass(get_schedule_class(config.parallelism.pipeline_parallel_schedule), PipelineScheduleMulti)
    assert looped == (s.schedule in (PipelineSchedule.INTERLEAVED, PipelineSchedule.ZERO_BUBBLE))


@pytest.mark.usefixtures("clean_flavours")
def test_the_model_has_the_planned_parameters(found: ExportCase, laid: Laid) -> None:
    import torch
    from torchtitan.protocols.train_spec import get_train_spec

    config = read(found, laid)
    if config.experimental.custom_import:
        sys.path.insert(0, str(laid(found, ExportTarget.TORCHTITAN)[1]))
        importlib.invalidate_caches()
        importlib.import_module(config.experimental.custom_import)
    spec = get_train_spec(config.model.name)
    arguments = spec.model_args[config.model.flavor]
    arguments.update_from_config(config)
    with torch.device("meta"):
        model = spec.model_cls(arguments)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == model_parameters(found.model).total


def test_plain_data_parallelism_goes_with_nothing_else() -> None:
    from planner.export import Dimension, refusals

    refused = refusals(case(Strategy(dp=2, tp=2)), ExportTarget.TORCHTITAN)
    assert [refusal.dimension for refusal in refused] == [Dimension.DP]
