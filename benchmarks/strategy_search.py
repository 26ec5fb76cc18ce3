"""How long it takes to search the whole space of strategies, on one core.

Cases: Llama-3.1-405B on 16,384 H100; a mixture of 256 experts (DeepSeek-V3, arXiv 2412.19437) on 2,048 H100; Llama-3-8B on every
device type of the catalogue, on 1, 2, 4 ... 1,024 devices. Each is searched for Megatron-Core (TPUs: MaxText), and the large ones
also for what any framework runs (``*_any_*``). The time is the best of some rounds, from the question to the last block of
strategies, with what a cost model adds where one is given. Device types of which the rules see the same share an enumeration.

Figures: seconds and legal strategies of each case; ``strategies_per_s`` of the mixture of experts.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy is imported
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from benchmarks._figures import write_figures  # noqa: E402
from planner.devices.catalogue import catalogue  # noqa: E402
from planner.strategies import (  # noqa: E402
    Grid,
    Prune,
    Question,
    StrategyTable,
    device_key,
    enumerate_grid,
    framework,
)
from trimtab.inventory import DeviceKind, DeviceType, Shape  # noqa: E402
from trimtab.model import (  # noqa: E402
    AttentionSpec,
    ExpertsSpec,
    FeedForwardSpec,
    LatentSpec,
    ModelFamily,
    ModelSpec,
    StackRole,
    StackSpec,
)
from trimtab.spec.presets import PRESETS  # noqa: E402
from trimtab.strategy import Precision  # noqa: E402
from trimtab.workload import DataKind, DataSpec, TrainWorkload  # noqa: E402

GOALS = {
    "llama405b_16k_s": "under 1",
    "moe256_2k_s": "under 1",
    "moe256_2k_legal_count": "at least 50000",
    "llama8b_all_devices_s": "under 1",
}
USUAL_NODE = 8
"""Devices of a node of those device types that have no usual node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the strategies of a table run."""

    device_type: DeviceType
    shape: Shape


Evaluate = Callable[[ModelSpec, TrainWorkload, StrategyTable, Place], NDArray[np.float64]]
"""Seconds of a step of every strategy of a table, shape [N]; infinite where it does not fit."""
Bound = Callable[[ModelSpec, TrainWorkload, Place], Prune]
"""The verdict on memory, which takes what does not fit; recompute and offload that are not needed then go too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Questions that are searched together."""

    name: str
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found: legal strategies, those that were looked at after pruning, the fastest step."""

    num_legal: int
    num_seen: int
    best_s: float


def mixture() -> ModelSpec:
    """DeepSeek-V3 without its extra prediction module: 3 dense layers, 58 of 256 experts; sizes from arXiv 2412.19437, 4.2."""
    latent = LatentSpec(kv_rank=512, rope_size=64, value_size=128, query_rank=1536)
    attention = AttentionSpec(num_heads=128, num_kv_heads=128, head_size=128, latent=latent)
    experts = ExpertsSpec(num_experts=256, top_k=8, shared_size=2048)
    dense = StackSpec(
        role=StackRole.DECODER,
        num_layers=3,
        attention=attention,
        feed_forward=FeedForwardSpec(hidden_size=18432),
        final_norm=False,
    )
    sparse = replace(dense, num_layers=58, feed_forward=FeedForwardSpec(hidden_size=2048, experts=experts), final_norm=True)
    return ModelSpec(
        name="deepseek-v3",
        family=ModelFamily.DECODER,
        hidden_size=7168,
        vocab_size=129_280,
        stacks=(dense, sparse),
        tied_embeddings=False,
        max_positions=4096,
    )


def workload(*, sequence_length: int, global_batch: int) -> TrainWorkload:
    """A training run in bfloat16."""
    return TrainWorkload(
        num_steps=1000,
        sequence_length=sequence_length,
        global_batch=global_batch,
        data=DataSpec(kind=DataKind.TEXT),
        precision=Precision.BF16,
    )


def cases(*, smoke: bool) -> tuple[Case, ...]:
    """The searches; in the short form on few devices."""
    h100 = catalogue()["H100-SXM5-80GB"]
    large = Question(
        model=PRESETS["llama-3-405b"],
        train=workload(sequence_length=8192, global_batch=2048),  # arXiv 2407.21783, table 4
        device_type=h100,
        shape=Shape(num_nodes=2 if smoke else 2048, devices_per_node=8),
        framework=framework("megatron"),
    )
    sparse = replace(
        large,
        model=mixture(),
        train=workload(sequence_length=4096, global_batch=15360),  # arXiv 2412.19437, 4.2
        shape=Shape(num_nodes=2 if smoke else 256, devices_per_node=8),
    )
    return (
        Case(name="llama405b_16k", questions=(large,)),
        Case(name="llama405b_16k_any", questions=(replace(large, framework=framework("any")),)),
        Case(name="moe256_2k", questions=(sparse,)),
        Case(name="moe256_2k_any", questions=(replace(sparse, framework=framework("any")),)),
        Case(name="llama8b_all_devices", questions=tuple(all_devices(most=8 if smoke else 1024))),
    )


def all_devices(*, most: int) -> Iterable[Question]:
    """Llama-3-8B on 1, 2, 4 ... devices of each type, on whole nodes; types without bfloat16 train in float16."""
    train = workload(sequence_length=8192, global_batch=1024)
    for device in catalogue().values():
        half = Precision.BF16 if "bf16" in device.peak_flops else Precision.FP16
        for num_devices in (1 << power for power in range(most.bit_length())):
            node = min(num_devices, device.devices_per_node or USUAL_NODE)
            yield Question(
                model=PRESETS["llama-3-8b"],
                train=replace(train, precision=half),
                device_type=device,
                shape=Shape(num_nodes=num_devices // node, devices_per_node=node),
                framework=framework("maxtext" if device.kind is DeviceKind.TPU else "megatron"),
            )


def search(case: Case, *, evaluate: Evaluate | None = None, bound: Bound | None = None) -> Found:
    """Enumerate every question and look at every block of strategies once for each device type."""
    grids: dict[object, Grid] = {}
    seen: dict[object, int] = {}
    num_legal, num_seen, best_s = 0, 0, float("inf")
    for question in case.questions:
        key = (question.shape, question.train.precision, question.framework.name, device_key(question))
        grid = grids.get(key)
        if grid is None:
            grid = grids[key] = enumerate_grid(question)
        num_legal += len(grid)
        if evaluate is None and bound is None and key in seen:
            num_seen += seen[key]  # the same blocks for another device type: without a cost model there is nothing to do
            continue
        place = Place(device_type=question.device_type, shape=question.shape)
        prune = bound(question.model, question.train, place) if bound else None
        seen[key] = 0
        for table in grid.blocks(prune=prune, only_needed=prune is not None):
            seen[key] += len(table)
            if evaluate is not None:
                best_s = min(best_s, float(evaluate(question.model, question.train, table, place).min(initial=float("inf"))))
        num_seen += seen[key]
    return Found(num_legal=num_legal, num_seen=num_seen, best_s=best_s)


def timed(case: Case, rounds: int) -> tuple[float, Found]:
    """The best wall-clock time of some rounds, and what was found (the same in each)."""
    best, found = float("inf"), None
    for _ in range(rounds):
        start = time.perf_counter()
        again = search(case)
        best = min(best, time.perf_counter() - start)
        assert found is None or again == found, "the same question has the same answer"
        found = again
    assert found is not None, "at least one round"
    return best, found


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write figures, details and environment here")
    parser.add_argument("--smoke", action="store_true", help="few devices, proves only that it runs")
    parser.add_argument("--rounds", type=int, default=5, help="the best of this many is given")
    options = parser.parse_args(argv)
    figures: dict[str, float | None] = {}
    refused: dict[str, dict[str, int]] = {}
    for case in cases(smoke=options.smoke):
        seconds, found = timed(case, 1 if options.smoke else options.rounds)
        figures[f"{case.name}_s"] = seconds
        figures[f"{case.name}_legal_count"] = float(found.num_legal)
        if len(case.questions) == 1:
            refused[case.name] = {refusal.rule: refusal.count for refusal in enumerate_grid(case.questions[0]).refusals}
        if case.name == "moe256_2k":
            figures["strategies_per_s"] = found.num_legal / seconds
    for key, value in figures.items():
        print(f"{key:<36}{value:>16.4f}")
    write_figures(options.json, figures, details={"refused": refused}, goals=GOALS, packages=("numpy",))
    return 0


if __name__ == "__main__":
    sys.exit(main())
