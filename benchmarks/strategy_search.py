"""How long it takes to find the best strategies of whole spaces, memory and time evaluated, on one core.

Cases: Llama-3.1-405B on 16,384 H100; a mixture of 256 experts (DeepSeek-V3, arXiv 2412.19437) on 2,048 H100; Llama-3-8B on every
device type of the catalogue, on 1, 2, 4 ... 1,024 devices. Each is searched for Megatron-Core (TPUs: MaxText), and the large ones
also for what any framework runs (``*_any_*``, with the costs of Megatron-Core).

``*_s`` is the best of some rounds, from the question to the 40 fastest strategies that fit, with their time and memory. On all
device types it is the time to the fastest plan, the cheapest one (the lowest catalogue price of each type; types without a price
take part in the race for the fastest only) and the whole Pareto front between them. All answers are exact: what is not looked at
has a lower bound above what was found. ``*_enumeration_s`` is the time to enumerate and count all legal strategies, which the
search does not need. ``strategies_per_s`` are full evaluations of time and memory, without bounds. ``mixed_512_s``: Llama-3-70B
on 256 H100 and 256 A100 at once, uneven pipelines, unlike replicas and either type alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy is imported
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks._figures import write_figures  # noqa: E402
from planner.candidates.front import Front, Offer, Point, search_front  # noqa: E402
from planner.candidates.mixed_plan import MixedJob, MixedKind, MixedSearch, NodeSet  # noqa: E402
from planner.candidates.mixed_search import search_mixed  # noqa: E402
from planner.candidates.search import Place, Search, job_of, search_grid  # noqa: E402
from planner.devices.catalogue import catalogue  # noqa: E402
from planner.devices.prices import prices_of  # noqa: E402
from planner.strategies import Grid, Question, device_key, enumerate_grid, framework  # noqa: E402
from planner.training.places import place_arrays  # noqa: E402
from planner.training.profiles import profile_of  # noqa: E402
from trimtab.inventory import DeviceKind, Shape  # noqa: E402
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
    "llama405b_16k_any_s": "under 1",
    "moe256_2k_s": "under 1",
    "moe256_2k_any_s": "under 1",
    "moe256_2k_legal_count": "at least 50000",
    "llama8b_all_devices_s": "under 1",
    "mixed_512_s": "under 2",
}
USUAL_NODE = 8
"""Devices of a node of those device types that have no usual node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Questions that are searched together."""

    name: str
    questions: tuple[Question, ...]


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


def place(question: Question) -> Place:
    """Where a question is asked: usual links and network of its device type."""
    name = "maxtext" if question.device_type.kind is DeviceKind.TPU else "megatron-bridge"
    arrays = place_arrays(question.device_type, devices_per_node=question.shape.devices_per_node)
    return Place(arrays=arrays, device_type=str(question.device_type.name), profile=profile_of(name))


def offer(question: Question) -> Offer:
    """A question with the lowest price of its device type."""
    prices = prices_of(str(question.device_type.name))
    lowest = float(prices[0].usd_per_device_hour) if prices else None
    return Offer(question=question, place=place(question), usd_per_device_hour=lowest)


def enumerate_case(case: Case) -> list[Grid]:
    """The legal strategies of every question; device types of which the rules see the same share an enumeration."""
    grids: dict[object, Grid] = {}
    keys = [(q.shape, q.train.precision, q.framework.name, device_key(q)) for q in case.questions]
    for key, question in zip(keys, case.questions, strict=True):
        if key not in grids:
            grids[key] = enumerate_grid(question)
    return [grids[key] for key in keys]


def search(case: Case, grids: Sequence[Grid]) -> Search | Front | None:
    """What the planner looks for: the best strategies of one place, or the front of many."""
    if len(case.questions) == 1:
        return search_grid(case.questions[0], place(case.questions[0]), grid=grids[0])
    return search_front([offer(question) for question in case.questions])


T = TypeVar("T")


def timed(call: Callable[[], T], rounds: int) -> tuple[float, T]:
    """The best wall-clock time of some rounds, and the answer of the last."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        answer = call()
        best = min(best, time.perf_counter() - start)
    return best, answer


def mixed_job(*, num_nodes: int) -> MixedJob:
    """Llama-3-70B on nodes of two types."""
    return MixedJob(
        model=PRESETS["llama-3-70b"],
        train=workload(sequence_length=8192, global_batch=1024),
        framework=framework("megatron"),
        profile=profile_of("megatron-bridge"),
        groups=tuple(
            NodeSet(device_type=catalogue()[name], num_nodes=num_nodes, devices_per_node=8)
            for name in ("H100-SXM5-80GB", "A100-SXM4-80GB")
        ),
    )


def described_mixed(found: MixedSearch) -> dict[str, object]:
    """The fastest plan of each kind, and what was looked at."""
    fastest = {str(kind): next((plan for plan in found.best if plan.kind is kind), None) for kind in MixedKind}
    plans = {kind: asdict(plan) if plan is not None else None for kind, plan in fastest.items()}
    counts = {"pipelines": found.num_pipelines, "replicas": found.num_replicas, "one-type": found.num_one_type}
    return {"legal": counts, "num_refined": found.num_refined, "is_exact": found.is_exact, "best_of_kind": plans}


def described(case: Case, found: Search | Front | None) -> dict[str, object]:
    """The answer in words and numbers, for the reader of the figures."""
    if found is None:
        return {"best": None}
    if isinstance(found, Search):
        time_s, memory = found.evaluated.time.step_s, found.evaluated.memory.total
        first = {"strategy": asdict(found.best.strategy(0)), "step_s": float(time_s[0]), "memory_bytes": float(memory[0])}
        return {"best": first, "num_timed": found.num_timed, "num_too_big": found.num_too_big}

    def point(entry: Point | None) -> dict[str, object] | None:
        if entry is None:
            return None
        question = case.questions[entry.offer]
        where = {"device_type": str(question.device_type.name), "num_devices": question.shape.num_devices}
        usd = entry.step_usd if entry.step_usd < float("inf") else None
        return where | {"strategy": asdict(entry.strategy), "step_s": entry.step_s, "step_usd": usd}

    front = [point(entry) for entry in found.points]
    counts = {"num_searched": found.num_searched, "num_timed": found.num_timed}
    return counts | {"fastest": point(found.fastest), "cheapest": point(found.cheapest), "front": front}


def evaluation_rate(case: Case, grid: Grid, rounds: int) -> float:
    """Strategies per second that are evaluated in full, time and memory, in the blocks of the grid's enumeration."""
    question = case.questions[0]
    where, job = place(question), job_of(question)
    tables = [table for table, _ in zip(grid.blocks(), range(4), strict=False)]
    seconds, _ = timed(lambda: [where.evaluated(job, table) for table in tables], rounds)
    return sum(len(table) for table in tables) / seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write figures, details and environment here")
    parser.add_argument("--smoke", action="store_true", help="few devices, proves only that it runs")
    parser.add_argument("--rounds", type=int, default=5, help="the best of this many is given")
    options = parser.parse_args(argv)
    figures: dict[str, float | None] = {}
    details: dict[str, object] = {}
    rounds = 1 if options.smoke else options.rounds
    for case in cases(smoke=options.smoke):
        enumeration_s, grids = timed(partial(enumerate_case, case), min(2, rounds))
        seconds, found = timed(partial(search, case, grids), rounds)
        figures[f"{case.name}_s"] = seconds
        figures[f"{case.name}_legal_count"] = float(sum(len(grid) for grid in grids))
        figures[f"{case.name}_enumeration_s"] = enumeration_s
        details[case.name] = described(case, found)
        if len(case.questions) == 1:
            refused = {refusal.rule: refusal.count for refusal in grids[0].refusals}
            details[case.name] = described(case, found) | {"refused": refused}
        if case.name == "moe256_2k":
            figures["strategies_per_s"] = evaluation_rate(case, grids[0], rounds)
    unlike = mixed_job(num_nodes=2 if options.smoke else 32)
    seconds, mixed = timed(partial(search_mixed, unlike), rounds)
    figures |= {"mixed_512_s": seconds, "mixed_512_legal_count": float(mixed.num_legal)}
    details["mixed_512"] = described_mixed(search_mixed(unlike, num_best=100))  # enough for one of each kind
    for key, value in figures.items():
        print(f"{key:<36}{value:>16.4f}")
    write_figures(options.json, figures, details=details, goals=GOALS, packages=("numpy",))
    return 0


if __name__ == "__main__":
    sys.exit(main())
