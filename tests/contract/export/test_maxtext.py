"""Every key is one of MaxText's with a value of its type, and by MaxText's arithmetic they are the plan.

MaxText is in no package index and needs a build of JAX, so it is not installed here. The keys of its ``base.yml`` stand, with
their source, in ``maxtext_keys.txt``, and its batch and mesh arithmetic (``configs/types.py``) is written again below.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.export import Dimension, ExportCase, ExportTarget, export, refusals
from tests.support.exporting import LLAMA_3, SMALL, case, with_experts
from trimtab.inventory import DeviceKind
from trimtab.model import ModelSpec
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute, Strategy

FACTS = Path(__file__).with_name("maxtext_keys.txt")
TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "list": (list,),
}
_B = {"micro_batch": 2, "num_micro_batches": 4, "precision": Precision.BF16}
_LOOPED = {"virtual_stages": 2, "schedule": PipelineSchedule.INTERLEAVED}
CASES: dict[str, tuple[ModelSpec, Strategy]] = {
    "data": (LLAMA_3, Strategy(dp=4, micro_batch=2)),
    "fsdp": (LLAMA_3, Strategy(fsdp=8, zero_stage=3, recompute=Recompute.FULL, **_B)),
    "hybrid, tensor": (LLAMA_3, Strategy(dp=2, fsdp=2, zero_stage=3, tp=2, offload=Offload.OPTIMIZER, **_B)),
    "sharded optimizer": (LLAMA_3, Strategy(fsdp=4, zero_stage=1, tp=2, sequence_parallel=True, **_B)),
    "context": (LLAMA_3, Strategy(fsdp=4, zero_stage=3, cp=2, recompute=Recompute.SELECTIVE, **_B)),
    "offload": (
        LLAMA_3,
        Strategy(fsdp=4, zero_stage=3, recompute=Recompute.SELECTIVE, offload=Offload.ACTIVATIONS, **_B),
    ),
    "pipeline": (SMALL, Strategy(fsdp=2, zero_stage=3, pp=4, schedule=PipelineSchedule.GPIPE, **_B)),
    "circular": (SMALL, Strategy(fsdp=2, zero_stage=3, pp=2, **_LOOPED, **_B)),
    "experts": (with_experts(), Strategy(fsdp=4, zero_stage=3, ep=2, tp=2, etp=2, **_B)),
    "fp8": (LLAMA_3, Strategy(fsdp=2, zero_stage=3, precision=Precision.FP8)),
}


@pytest.fixture(params=[DeviceKind.GPU, DeviceKind.TPU])
def kind(request: pytest.FixtureRequest) -> DeviceKind:
    """GPU nodes and TPU slices."""
    found: DeviceKind = request.param
    return found


@pytest.fixture(params=list(CASES))
def found(request: pytest.FixtureRequest, kind: DeviceKind) -> ExportCase:
    """One of the cases, on two nodes where there are eight ranks."""
    model, strategy = CASES[request.param]
    return case(strategy, model=model, num_nodes=2 if strategy.world_size == 8 else 1, device_kind=kind)


def read(found: ExportCase) -> dict[str, Any]:
    """The file as YAML."""
    tree: dict[str, Any] = yaml.safe_load(export(found, ExportTarget.MAXTEXT).file("maxtext.yml").text)
    return tree


def test_every_key_is_known_with_that_type(found: ExportCase) -> None:
    known = dict(line.split() for line in FACTS.read_text().splitlines() if not line.startswith("#"))
    tree = read(found)
    assert tree.pop("base_config") == "base.yml"  # the key that names what a file stands on (configs/pyconfig.py)
    for key, value in tree.items():
        assert key in known, f"{key} is no key of base.yml"
        assert isinstance(value, TYPES[known[key]]), f"{key}: {value!r} is no {known[key]}"


def test_the_mesh_has_the_planned_degrees(found: ExportCase) -> None:
    tree, s = read(found), found.strategy
    within = {key[4:-12]: value for key, value in tree.items() if key.startswith("ici_")}
    across = {key[4:-12]: value for key, value in tree.items() if key.startswith("dcn_")}
    num_domains = found.shape.num_nodes if found.device_kind is DeviceKind.GPU else 1
    assert math.prod(across.values()) == num_domains
    assert math.prod(within.values()) * num_domains == s.world_size
    total = {axis: within[axis] * across[axis] for axis in within}
    assert (total["pipeline"], total["context"], total["expert"]) == (s.pp, s.cp, s.ep)
    assert total["tensor"] * total["tensor_sequence"] == s.tp
    assert (total["tensor_sequence"] > 1) == s.sequence_parallel
    # Samples are spread over data, fsdp and expert ranks; state over fsdp and expert, or the optimizer over data.
    assert total["data"] * total["fsdp"] * total["expert"] == s.data_ranks
    sharded = total["data"] if tree["shard_optimizer_over_data"] else total["fsdp"] * total["expert"]
    assert sharded == s.fsdp


def test_the_batch_is_the_planned_one(found: ExportCase) -> None:
    tree, s = read(found), found.strategy
    at_once = int(s.world_size * tree["per_device_batch_size"])
    assert at_once * tree["gradient_accumulation_steps"] == s.global_batch
    if s.pp > 1:
        assert at_once % tree["num_pipeline_microbatches"] == 0
        assert at_once // tree["num_pipeline_microbatches"] == s.micro_batch * s.data_ranks
        assert tree["num_pipeline_microbatches"] % s.pp == 0
        layers = tree["num_layers_per_pipeline_stage"] * tree["num_pipeline_repeats"] * s.pp
        assert layers == found.model.num_layers
    else:
        assert at_once == s.micro_batch * s.data_ranks


def test_recompute_offload_and_precision_are_the_planned_ones(found: ExportCase) -> None:
    tree, s = read(found), found.strategy
    moved = s.offload is Offload.ACTIVATIONS
    policy = {Recompute.NONE: "none", Recompute.SELECTIVE: "minimal", Recompute.FULL: "full"}[s.recompute]
    assert tree["remat_policy"] == (f"{policy}_offloaded" if moved else policy)
    assert tree["optimizer_memory_host_offload"] == (s.offload is Offload.OPTIMIZER)
    assert tree["dtype"] == ("float32" if s.precision is Precision.FP32 else "bfloat16")
    assert tree["quantization"] == ("fp8" if s.precision is Precision.FP8 else "")


@pytest.mark.parametrize(
    ("strategy", "dimension"),
    [
        (Strategy(pp=2, num_micro_batches=2), Dimension.SCHEDULE),
        (Strategy(fsdp=2, zero_stage=2), Dimension.ZERO_STAGE),
        (Strategy(dp=2, fsdp=2, zero_stage=1), Dimension.ZERO_STAGE),
        (Strategy(precision=Precision.FP64), Dimension.PRECISION),
    ],
)
def test_what_it_cannot_express_is_refused_by_name(strategy: Strategy, dimension: Dimension) -> None:
    assert dimension in [refusal.dimension for refusal in refusals(case(strategy), ExportTarget.MAXTEXT)]


def test_tensor_ranks_across_nodes_are_refused() -> None:
    refused = refusals(case(Strategy(tp=2), num_nodes=2), ExportTarget.MAXTEXT)
    assert refused == ()  # a tensor axis may cross nodes where nothing else can
    odd = refusals(case(Strategy(dp=2, tp=3), model=SMALL, num_nodes=1), ExportTarget.MAXTEXT)
    assert odd == ()
