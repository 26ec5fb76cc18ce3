"""Accelerate's own loader and launcher take the file, and its plugins read from it what the plan says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planner.export import Dimension, ExportCase, ExportTarget, refusals
from tests.contract.export.conftest import Laid
from tests.support.exporting import SMALL, case, with_experts
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute, Strategy

pytestmark = pytest.mark.runtime

_B = {"micro_batch": 2, "num_micro_batches": 4, "precision": Precision.BF16}
EIGHTH = Strategy(fsdp=2, zero_stage=3, precision=Precision.FP8)
CASES = {
    "one": (SMALL, Strategy(precision=Precision.BF16)),
    "ddp": (SMALL, Strategy(dp=4, **_B)),
    "zero 1": (SMALL, Strategy(fsdp=4, zero_stage=1, offload=Offload.OPTIMIZER, **_B)),
    "fsdp 2": (SMALL, Strategy(fsdp=4, zero_stage=2, **_B)),
    "hsdp": (
        SMALL,
        Strategy(dp=2, fsdp=2, zero_stage=3, tp=2, recompute=Recompute.FULL, offload=Offload.ACTIVATIONS, **_B),
    ),
    "context": (SMALL, Strategy(fsdp=2, zero_stage=3, cp=2, **_B)),
    "pipeline": (SMALL, Strategy(fsdp=2, zero_stage=1, tp=2, sequence_parallel=True, pp=2, **_B)),
    "experts": (with_experts(), Strategy(dp=4, ep=2, recompute=Recompute.SELECTIVE, **_B)),
}


@pytest.fixture(params=list(CASES))
def found(request: pytest.FixtureRequest) -> ExportCase:
    """One of the cases, on two nodes where there are eight ranks."""
    model, strategy = CASES[request.param]
    return case(strategy, model=model, num_nodes=2 if strategy.world_size == 8 else 1, main_port=1234)


def launched(found: ExportCase, laid: Laid, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Mapping[str, str]]:
    """What ``accelerate launch`` makes of the file: its arguments, and the variables that it gives the ranks."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    written, folder = laid(found, ExportTarget.ACCELERATE)
    argv = list(written.launch.on(0)[2:])
    argv[argv.index("accelerate.yaml")] = str(folder / "accelerate.yaml")
    (folder / "train.py").touch()
    args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(argv))
    for name, value in written.launch.environment.items():
        monkeypatch.setenv(name, value)
    # As launch_command does before it starts anything.
    args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    environment = prepare_deepspeed_cmd_env(args)[1] if args.use_deepspeed else prepare_multi_gpu_env(args)
    assert defaults.num_processes == found.strategy.world_size
    return args, environment


def test_the_loader_takes_the_file(found: ExportCase, laid: Laid) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    _, folder = laid(found, ExportTarget.ACCELERATE)
    config = load_config_from_file(str(folder / "accelerate.yaml"))
    assert (config.num_processes, config.num_machines) == (found.strategy.world_size, found.shape.num_nodes)
    assert config.mixed_precision == "bf16"
    assert config.main_process_port == 1234


def test_the_launcher_hands_the_strategy_to_the_ranks(found: ExportCase, laid: Laid, monkeypatch: pytest.MonkeyPatch) -> None:
    args, environment = launched(found, laid, monkeypatch)
    s = found.strategy
    assert (args.num_processes, args.machine_rank) == (s.world_size, 0)
    for name in [name for name in os.environ if name.startswith(("FSDP_", "PARALLELISM_CONFIG_", "MEGATRON_LM_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if args.use_megatron_lm:
        _check_megatron(s)
    elif args.use_fsdp:
        _check_fsdp(s)
    elif args.use_deepspeed:
        assert (environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"], s.zero_stage) == ("1", 1)
        assert environment["ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE"] == "cpu"
    else:
        assert s.zero_stage == 0
    assert environment["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] == str(s.num_micro_batches)
    assert s.micro_batch * s.num_micro_batches * s.data_ranks == s.global_batch
    assert environment["TRIMTAB_MICRO_BATCH"] == str(s.micro_batch)


@pytest.mark.parametrize("precision", [Precision.FP8, Precision.MXFP8])
def test_eight_bits_reach_the_recipe_of_transformer_engine(
    laid: Laid, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    """Accelerate starts FP8 only where Transformer Engine is installed; these are the variables that its recipe reads."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import setup_fp8_env

    _, folder = laid(case(replace(EIGHTH, precision=precision)), ExportTarget.ACCELERATE)
    argv = ["--config_file", str(folder / "accelerate.yaml"), "train.py"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(argv))
    assert args.mixed_precision == "fp8"
    environment = setup_fp8_env(args, {})
    assert (environment["ACCELERATE_FP8_BACKEND"], environment["ACCELERATE_FP8_FORMAT"]) == ("TE", "HYBRID")
    assert environment["ACCELERATE_FP8_USE_MXFP8_BLOCK_SCALING"] == str(precision is Precision.MXFP8)


def _check_fsdp(s: Strategy) -> None:
    from accelerate.parallelism_config import ParallelismConfig
    from accelerate.utils import FullyShardedDataParallelPlugin

    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward == (s.zero_stage == 3)
    assert plugin.activation_checkpointing == (s.recompute is Recompute.FULL)
    assert plugin.activation_checkpointing_offload == (s.offload is Offload.ACTIVATIONS)
    config = ParallelismConfig()
    assert config.total_size == s.world_size
    assert config.data_parallel_size == s.data_ranks
    assert (config.dp_replicate_size, config.dp_shard_size, config.tp_size, config.cp_size) == (s.dp, s.fsdp, s.tp, s.cp)


def _check_megatron(s: Strategy) -> None:
    # The plugin itself needs Megatron-LM's training package, which is on no index; these are the variables that it reads.
    def read(name: str) -> str:
        return os.environ[f"MEGATRON_LM_{name}"]

    degrees = ("TP_DEGREE", "PP_DEGREE", "CONTEXT_PARALLEL_SIZE", "EXPERT_MODEL_PARALLEL_SIZE", "EXPERT_TENSOR_PARALLEL_SIZE")
    assert [int(read(name)) for name in degrees] == [s.tp, s.pp, s.cp, s.ep, s.etp]
    assert int(read("NUM_MICRO_BATCHES")) == s.num_micro_batches
    assert read("SEQUENCE_PARALLELISM") == str(s.sequence_parallel)
    assert read("USE_DISTRIBUTED_OPTIMIZER") == str(s.zero_stage == 1)
    if s.recompute is not Recompute.NONE:
        assert read("RECOMPUTE_GRANULARITY") == str(s.recompute)


def test_every_key_is_an_option_of_the_launcher(found: ExportCase, laid: Laid, tmp_path: Path) -> None:
    """Sections are free mappings to the loader: a misspelt key would be taken and never be read."""
    import yaml
    from accelerate.commands.launch import launch_command_parser

    export, _ = laid(found, ExportTarget.ACCELERATE)
    options = vars(launch_command_parser().parse_args([str(tmp_path / "train.py")]))
    tree = yaml.safe_load(export.file("accelerate.yaml").text)
    for section, keys in tree.items():
        if isinstance(keys, dict):
            named = {key if section != "fp8_config" or key.startswith("fp8") else f"fp8_{key}" for key in keys}
            assert named <= {*options, "fp8_use_mxfp8_block_scaling"}


@pytest.mark.parametrize(
    ("strategy", "dimension"),
    [
        (Strategy(fsdp=2, zero_stage=3, pp=2, num_micro_batches=2), Dimension.ZERO_STAGE),
        (Strategy(pp=2, num_micro_batches=2, schedule=PipelineSchedule.GPIPE), Dimension.SCHEDULE),
        (Strategy(dp=2, tp=2), Dimension.DP),
        (Strategy(fsdp=2, zero_stage=1, cp=2), Dimension.CP),
        (Strategy(fsdp=2, zero_stage=3, offload=Offload.OPTIMIZER), Dimension.OFFLOAD),
    ],
)
def test_what_it_cannot_express_is_refused_by_name(strategy: Strategy, dimension: Dimension) -> None:
    assert dimension in [refusal.dimension for refusal in refusals(case(strategy), ExportTarget.ACCELERATE)]
