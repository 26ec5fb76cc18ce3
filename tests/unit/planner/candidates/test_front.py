"""The front of many device types is that of searching every one of them in full."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.candidates.front import Front, Offer, search_front
from planner.candidates.search import Place, job_of, plain_table, search_grid
from planner.devices.catalogue import catalogue
from planner.strategies import Question, enumerate_grid, framework
from planner.training.bound import work_of
from planner.training.places import place_arrays
from planner.training.profiles import profile_of
from tests.support.planning import LLAMA_8B, workload
from trimtab.inventory import DeviceKind, Shape
from trimtab.model import ExpertsSpec, FeedForwardSpec, ModelSpec
from trimtab.strategy import Precision

TRAIN = replace(workload(), sequence_length=4096, global_batch=64, precision=Precision.BF16)
ROUTED = replace(
    LLAMA_8B,
    stacks=(
        replace(
            LLAMA_8B.stacks[0],
            feed_forward=FeedForwardSpec(hidden_size=2048, experts=ExpertsSpec(num_experts=16, top_k=2)),
        ),
    ),
)
PRICES = {"H100-SXM5-80GB": 2.0, "A100-SXM4-80GB": 0.9, "L4-24GB": 0.5, "TPU-v5e": 0.7, "B200-SXM-180GB": None}


def offer(model: ModelSpec, device: str, num_devices: int, usd: float | None) -> Offer:
    kind = catalogue()[device].kind
    trainer, profile = ("maxtext", "maxtext") if kind is DeviceKind.TPU else ("megatron", "megatron-bridge")
    node = min(8, num_devices)
    question = Question(
        model=model,
        train=TRAIN,
        device_type=catalogue()[device],
        shape=Shape(num_nodes=num_devices // node, devices_per_node=node),
        framework=framework(trainer),
    )
    arrays = place_arrays(question.device_type, devices_per_node=node)
    return Offer(
        question=question,
        place=Place(arrays=arrays, device_type=device, profile=profile_of(profile)),
        usd_per_device_hour=usd,
    )


def offers(model: ModelSpec) -> list[Offer]:
    return [offer(model, name, count, usd) for name, usd in PRICES.items() for count in (1, 4, 16, 32)]


def full(all_offers: list[Offer]) -> tuple[list[tuple[float, float]], float]:
    points = []
    for one in all_offers:
        found = search_grid(one.question, one.place, num_kept=1)
        if found is not None:
            step_s = float(found.evaluated.time.step_s[0])
            points.append((step_s, step_s * one.usd_per_s))
    front: list[tuple[float, float]] = []
    for step_s, usd in sorted(points):
        if usd < (front[-1][1] if front else np.inf):
            front.append((step_s, usd))
    return front, min(points)[0]


@pytest.mark.parametrize("model", [LLAMA_8B, ROUTED], ids=["dense", "experts"])
def test_front_is_that_of_a_full_search(model: ModelSpec) -> None:
    all_offers = offers(model)
    front, fastest_s = full(all_offers)
    found = search_front(all_offers)
    assert np.array([(point.step_s, point.step_usd) for point in found.points]) == pytest.approx(np.array(front), rel=1e-12)
    assert found.fastest is not None
    assert found.fastest.step_s == pytest.approx(fastest_s, rel=1e-12)
    assert all_offers[found.fastest.offer].usd_per_device_hour is None
    assert found.cheapest == found.points[-1]
    assert found.num_searched < len(all_offers)


def test_without_offers_there_is_no_front() -> None:
    assert search_front([]) == Front(points=(), fastest=None, num_searched=0, num_timed=0)


@pytest.mark.parametrize("model", [LLAMA_8B, ROUTED], ids=["dense", "experts"])
@pytest.mark.parametrize("device", ["H100-SXM5-80GB", "TPU-v5e"])
def test_bounds_are_below_every_time(model: ModelSpec, device: str) -> None:
    one = offer(model, device, 16, None)
    job = job_of(one.question)
    table = enumerate_grid(one.question).table
    times, bounds = one.place.step_s(job, table), one.place.bounds_s(job, table)
    assert (bounds <= times).all()
    assert (bounds > 0.5 * times).any(), "a bound that says nothing"
    work = work_of(lambda few: one.place.asked(job, few), model, global_batch=TRAIN.global_batch, precisions=(TRAIN.precision,))
    least_s = work.bound_s(num_devices=16, devices_per_node=8)
    assert 0.3 * times.min() < least_s < times.min()
    assert len(plain_table(one.question)) < len(table)
