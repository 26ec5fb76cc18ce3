"""The arguments exist in Megatron-LM with these arities, and its configuration classes take their values as the plan means them.

``pretrain_gpt.py`` and its argument parser are in no package. Arguments that are fields of ``TransformerConfig`` are read from
the installed class by the rule of Megatron's own factory (megatron/training/argument_utils.py); the others stand, with their
source, in ``megatron_arguments.txt``.
"""

from __future__ import annotations

import dataclasses
import typing
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest

from planner.export import ExportCase, ExportTarget, export
from tests.support.exporting import LLAMA_3, SMALL, case, with_experts, with_latent
from tests.support.planning import GPT2_SMALL
from trimtab.model import ModelSpec
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute, Strategy

pytestmark = pytest.mark.runtime

FACTS = Path(__file__).with_name("megatron_arguments.txt")
_B = {"micro_batch": 2, "num_micro_batches": 4, "precision": Precision.BF16}
_LOOPED = {"virtual_stages": 2, "schedule": PipelineSchedule.INTERLEAVED}
CASES: dict[str, tuple[ModelSpec, Strategy]] = {
    "plain": (GPT2_SMALL, Strategy(dp=4, micro_batch=2, num_micro_batches=4)),
    "distributed optimizer": (LLAMA_3, Strategy(dp=2, fsdp=2, zero_stage=1, tp=2, sequence_parallel=True, **_B)),
    "fsdp 2": (LLAMA_3, Strategy(fsdp=4, zero_stage=2, recompute=Recompute.FULL, **_B)),
    "fsdp 3": (LLAMA_3, Strategy(dp=2, fsdp=4, zero_stage=3, recompute=Recompute.SELECTIVE, **_B)),
    "context": (LLAMA_3, Strategy(dp=2, tp=2, cp=2, **_B)),
    "pipeline": (SMALL, Strategy(dp=2, pp=4, **_B)),
    "uneven": (SMALL, Strategy(dp=2, pp=2, stage_layers=(5, 3), **_B)),
    "interleaved": (SMALL, Strategy(fsdp=2, zero_stage=1, pp=2, **_LOOPED, **_B)),
    "interleaved, uneven": (SMALL, Strategy(pp=2, stage_layers=(3, 2, 2, 1), **_LOOPED, **_B)),
    "experts": (with_experts(), Strategy(dp=4, tp=2, sequence_parallel=True, ep=4, etp=2, **_B)),
    "latent": (with_latent(), Strategy(fsdp=4, zero_stage=1, ep=2, offload=Offload.OPTIMIZER, **_B)),
    "fp16": (LLAMA_3, Strategy(dp=2, precision=Precision.FP16)),
    "fp8": (LLAMA_3, Strategy(dp=2, precision=Precision.FP8)),
    "mxfp8": (LLAMA_3, Strategy(dp=2, precision=Precision.MXFP8)),
    "nvfp4": (LLAMA_3, Strategy(dp=2, precision=Precision.NVFP4)),
}


@pytest.fixture(params=list(CASES))
def found(request: pytest.FixtureRequest) -> ExportCase:
    """One of the cases."""
    model, strategy = CASES[request.param]
    return case(strategy, model=model)


def parser() -> ArgumentParser:
    """Megatron's arguments: the facts of the file, and the fields of the installed ``TransformerConfig``."""
    from megatron.core.transformer.transformer_config import TransformerConfig

    made = ArgumentParser(allow_abbrev=False, conflict_handler="resolve")
    hints = typing.get_type_hints(TransformerConfig)
    for field in dataclasses.fields(TransformerConfig):
        names = field.metadata.get("argparse_meta", {}).get("arg_names", [f"--{field.name.replace('_', '-')}"])
        if hints[field.name] is bool:
            made.add_argument(*names, dest=field.name, action="store_false" if field.default is True else "store_true")
        elif typing.get_origin(typing.get_args(hints[field.name])[:1] and typing.get_args(hints[field.name])[0]) is list:
            made.add_argument(*names, dest=field.name, nargs="+")
        else:
            made.add_argument(*names, dest=field.name)
    for line in FACTS.read_text().splitlines():
        if not line.startswith("#"):
            name, arity = line.split()
            extra: dict[str, Any] = {"flag": {"action": "store_true"}, "values": {"nargs": "+"}, "value": {}}[arity]
            made.add_argument(name, **extra)
    return made


def read(found: ExportCase) -> Namespace:
    """The arguments after the program, read by the parser, which refuses what it does not know."""
    launch = export(found, ExportTarget.MEGATRON).launch
    return parser().parse_args(list(launch.argv[launch.argv.index("pretrain_gpt.py") + 1 :]))


def number(text: str | None, default: int = 1) -> int:
    """A value as a whole number."""
    return default if text is None else int(text)


def test_degrees_and_batches_are_those_of_the_plan(found: ExportCase) -> None:
    from megatron.core.num_microbatches_calculator import ConstantNumMicroBatchesCalculator

    args, s = read(found), found.strategy
    tp, pp, cp = (
        number(args.tensor_model_parallel_size),
        number(args.pipeline_model_parallel_size),
        number(args.context_parallel_size),
    )
    # parallel_state.py: what the model leaves of the world is data parallel.
    data, rest = divmod(s.world_size, tp * pp * cp)
    assert rest == 0
    assert (tp, pp, cp, data) == (s.tp, s.pp, s.cp, s.data_ranks)
    counted = ConstantNumMicroBatchesCalculator(
        global_batch_size=int(args.global_batch_size),
        micro_batch_size=int(args.micro_batch_size),
        data_parallel_size=data,
        decrease_batch_size_if_needed=False,
        rank=0,
    )
    assert counted.get() == s.num_micro_batches
    assert int(args.global_batch_size) == s.global_batch
    instances = number(args.num_distributed_optimizer_instances)
    if s.zero_stage:
        assert args.use_distributed_optimizer
        assert data // instances == s.fsdp
    experts = number(args.expert_model_parallel_size) * number(args.expert_tensor_parallel_size)
    assert experts == s.ep * s.etp
    assert s.world_size % (experts * pp) == 0


def test_the_sharding_is_a_strategy_of_its_data_parallel_config(found: ExportCase) -> None:
    from megatron.core.distributed import DistributedDataParallelConfig

    args, s = read(found), found.strategy
    config = DistributedDataParallelConfig(
        use_distributed_optimizer=args.use_distributed_optimizer,
        use_megatron_fsdp=args.use_megatron_fsdp,
        data_parallel_sharding_strategy=args.data_parallel_sharding_strategy or "no_shard",
        num_distributed_optimizer_instances=number(args.num_distributed_optimizer_instances),
    )
    assert config.use_distributed_optimizer == (s.zero_stage > 0)
    assert config.use_megatron_fsdp == (s.zero_stage > 1)
    assert config.data_parallel_sharding_strategy == {2: "optim_grads", 3: "optim_grads_params"}.get(s.zero_stage, "no_shard")


_OWN = ("moe_layer_freq", "window_size", "pipeline_model_parallel_layout")
"""Fields whose arguments are texts that ``arguments.py`` evaluates by itself."""


def transformer(found: ExportCase, args: Namespace) -> Any:
    """The configuration that ``core_transformer_config_from_args`` makes: the arguments under the names of its fields."""
    import torch
    from megatron.core.transformer.transformer_config import MLATransformerConfig, TransformerConfig

    cls = MLATransformerConfig if args.multi_latent_attention else TransformerConfig
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        given = getattr(args, field.name, None)
        if given is not None and given is not field.default and field.name not in _OWN:
            kind = next((t for t in (int, float) if t in (hints[field.name], *typing.get_args(hints[field.name]))), str)
            values[field.name] = given if isinstance(given, bool | list) else kind(given)
    # arguments.py renames these.
    values["num_moe_experts"] = None if args.num_experts is None else int(args.num_experts)
    values["gated_linear_unit"] = args.swiglu
    values["pipeline_dtype"] = torch.bfloat16 if args.bf16 else torch.float32
    if args.num_virtual_stages_per_pipeline_rank is not None:
        values["virtual_pipeline_model_parallel_size"] = int(args.num_virtual_stages_per_pipeline_rank)
    if args.moe_layer_freq is not None:
        values["moe_layer_freq"] = eval(args.moe_layer_freq, {"__builtins__": {}})
    if args.pipeline_model_parallel_layout is not None:
        values["pipeline_model_parallel_layout"] = args.pipeline_model_parallel_layout
    if not torch.cuda.is_available():
        for name in ("fp8", "fp8_recipe", "fp4", "fp4_recipe"):  # these ask for Transformer Engine and a GPU
            values.pop(name, None)
    return cls(**values)


def test_the_transformer_config_takes_the_model_and_the_strategy(found: ExportCase) -> None:
    args, s, model = read(found), found.strategy, found.model
    config = transformer(found, args)
    stack = model.stacks[-1]
    assert (config.num_layers, config.hidden_size) == (model.num_layers, model.hidden_size)
    assert config.num_attention_heads == stack.attention.num_heads
    if stack.attention.latent is None:
        assert (config.num_query_groups, config.kv_channels) == (stack.attention.num_kv_heads, stack.attention.head_size)
    else:
        assert (config.kv_lora_rank, config.q_lora_rank, config.qk_pos_emb_head_dim) == (32, 48, 8)
    assert config.gated_linear_unit == stack.feed_forward.gated
    assert config.add_bias_linear == stack.feed_forward.bias
    assert config.sequence_parallel == s.sequence_parallel
    assert (config.tensor_model_parallel_size, config.context_parallel_size) == (s.tp, s.cp)
    assert config.recompute_granularity == {Recompute.NONE: None}.get(s.recompute, str(s.recompute))
    if stack.feed_forward.experts is not None:
        assert config.num_moe_experts == stack.feed_forward.experts.num_experts
        assert (config.expert_model_parallel_size, config.expert_tensor_parallel_size) == (s.ep, s.etp)
        frequency = config.moe_layer_freq
        if isinstance(frequency, list):
            assert sum(frequency) == sum(x.num_layers for x in model.stacks if x.feed_forward.experts is not None)


def test_the_stages_hold_the_planned_layers(found: ExportCase) -> None:
    from megatron.core.transformer.enums import LayerType
    from megatron.core.transformer.pipeline_parallel_layer_layout import PipelineParallelLayerLayout

    args, s = read(found), found.strategy
    if s.pp == 1:
        return
    if args.pipeline_model_parallel_layout is None:
        # Megatron splits evenly, and refuses what does not divide.
        assert number(args.num_virtual_stages_per_pipeline_rank) == s.virtual_stages
        assert len(set(found.stage_layers)) == 1
        return
    layout = PipelineParallelLayerLayout.from_str(args.pipeline_model_parallel_layout, s.pp)
    assert layout.virtual_pipeline_model_parallel_size == s.virtual_stages
    layout.validate_layer_layout(num_layers=found.model.num_layers, mtp_num_layers=0)
    held = [layout.layout[rank][part].count(LayerType.decoder) for part in range(s.virtual_stages) for rank in range(s.pp)]
    assert held == list(found.stage_layers)


def test_precision_and_offload_are_those_of_the_plan(found: ExportCase) -> None:
    args, s = read(found), found.strategy
    eighth = s.precision in (Precision.FP8, Precision.MXFP8)
    assert args.bf16 == (s.precision in (Precision.BF16, Precision.FP8, Precision.MXFP8, Precision.NVFP4))
    assert args.fp16 == (s.precision is Precision.FP16)
    assert (args.fp8 is not None, args.fp4 is not None) == (eighth, s.precision is Precision.NVFP4)
    if eighth:
        from megatron.core.enums import Fp8Recipe

        recipe = {Precision.FP8: Fp8Recipe.tensorwise, Precision.MXFP8: Fp8Recipe.mxfp8}[s.precision]
        assert Fp8Recipe[args.fp8_recipe] is recipe
    assert args.optimizer_cpu_offload == (s.offload is Offload.OPTIMIZER)
