"""Branch and bound finds what looking at everything finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.candidates.search import Place, job_of, search_grid
from planner.devices.catalogue import catalogue
from planner.strategies import Question, enumerate_grid, framework
from planner.training.places import place_arrays
from planner.training.profiles import profile_of
from tests.support.planning import LLAMA_8B, tiny_model, workload
from trimtab.inventory import Shape
from trimtab.model import ExpertsSpec, FeedForwardSpec, ModelSpec
from trimtab.strategy import Precision

TRAIN = replace(workload(), sequence_length=4096, global_batch=64, precision=Precision.BF16)


def routed(model: ModelSpec) -> ModelSpec:
    block = FeedForwardSpec(hidden_size=2048, experts=ExpertsSpec(num_experts=16, top_k=2))
    return replace(model, stacks=(replace(model.stacks[0], feed_forward=block),))


def question(model: ModelSpec, device: str, num_devices: int, trainer: str) -> Question:
    return Question(
        model=model,
        train=TRAIN,
        device_type=catalogue()[device],
        shape=Shape(num_nodes=max(1, num_devices // 8), devices_per_node=min(8, num_devices)),
        framework=framework(trainer),
    )


def place(asked: Question, profile: str) -> Place:
    arrays = place_arrays(asked.device_type, devices_per_node=asked.shape.devices_per_node)
    return Place(arrays=arrays, device_type=str(asked.device_type.name), profile=profile_of(profile))


WORLDS = [
    (LLAMA_8B, "H100-SXM5-80GB", 8, "megatron", "megatron-bridge"),
    (LLAMA_8B, "A100-SXM4-40GB", 16, "deepspeed", "deepspeed"),
    (routed(LLAMA_8B), "H100-SXM5-80GB", 8, "megatron", "megatron-bridge"),
    (LLAMA_8B, "TPU-v5p", 16, "maxtext", "maxtext"),
    (replace(tiny_model(), max_positions=4096), "L4-24GB", 4, "torchtitan", "torchtitan"),
    (LLAMA_8B, "H100-SXM5-80GB", 16, "composer-fsdp", "composer-fsdp"),
]


@pytest.mark.parametrize(("model", "device", "num_devices", "trainer", "profile"), WORLDS, ids=lambda value: str(value)[:12])
def test_the_best_are_those_of_a_full_search(model: ModelSpec, device: str, num_devices: int, trainer: str, profile: str) -> None:
    asked = question(model, device, num_devices, trainer)
    where, job = place(asked, profile), job_of(asked)
    table = enumerate_grid(asked).table
    fitting = table.take(where.fits(job, table))
    expected = np.sort(where.step_s(job, fitting))[:10]
    found = search_grid(asked, where, num_kept=10)
    assert found is not None
    assert found.num_legal == len(table)
    assert found.num_timed <= 2 * len(table)
    assert np.allclose(found.evaluated.time.step_s, expected, rtol=1e-12)
    assert where.fits(job, found.best).all()


def test_nothing_that_fits_is_no_answer() -> None:
    large = replace(LLAMA_8B, stacks=(replace(LLAMA_8B.stacks[0], num_layers=512),))
    asked = question(large, "L4-24GB", 1, "torchtitan")
    assert search_grid(asked, place(asked, "torchtitan")) is None


def test_the_same_question_has_the_same_answer() -> None:
    asked = question(LLAMA_8B, "H100-SXM5-80GB", 8, "megatron")
    first, second = (search_grid(asked, place(asked, "megatron-bridge")) for _ in range(2))
    assert first is not None
    assert second is not None
    assert [first.best.strategy(i) for i in range(len(first.best))] == [second.best.strategy(i) for i in range(len(second.best))]
