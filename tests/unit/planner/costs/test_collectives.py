from __future__ import annotations

import pytest

from planner.costs.collectives import CollectiveLink, group_spans, ring_seconds
from planner.costs.types import Exchange, RankSpan
from trimtab.inventory import ProbeKernel
from trimtab.strategy import Strategy

INNER = CollectiveLink(bandwidth_bytes_per_s=1e9, latency_s=1e-6)
OUTER = CollectiveLink(bandwidth_bytes_per_s=1e8, latency_s=1e-5)


def seconds(kernel: ProbeKernel, num_bytes: float, size: int, per_node: int) -> float:
    exchange = Exchange(kernel=kernel, group="dp", num_bytes=num_bytes)
    return ring_seconds(exchange, RankSpan(size=size, per_node=per_node), inner=INNER, outer=OUTER)


def test_a_group_of_one_costs_nothing() -> None:
    assert seconds(ProbeKernel.ALL_REDUCE, 1e9, 1, 1) == 0.0


def test_all_reduce_moves_twice_what_a_gather_moves() -> None:
    assert seconds(ProbeKernel.ALL_REDUCE, 1e9, 4, 4) == pytest.approx(2 * seconds(ProbeKernel.ALL_GATHER, 1e9, 4, 4))
    assert seconds(ProbeKernel.ALL_GATHER, 1e9, 4, 4) == pytest.approx(0.75 + 3e-6)


def test_the_network_is_shared_by_the_ranks_of_a_node() -> None:
    packed = seconds(ProbeKernel.ALL_REDUCE, 1e9, 8, 4)
    assert packed == pytest.approx(2 * (0.5 * 1e9 / (4 * 1e8)) + 2 * (3 * 1e-6 + 1e-5))
    assert seconds(ProbeKernel.ALL_REDUCE, 1e9, 8, 1) > packed


def test_messages_cost_latency_even_without_bytes() -> None:
    assert seconds(ProbeKernel.ALL_REDUCE, 0.0, 8, 1) == pytest.approx(2 * 7 * 1e-5)


def test_ranks_are_laid_out_from_tensor_to_pipeline() -> None:
    spans = group_spans(Strategy(tp=4, fsdp=2, zero_stage=3, dp=2, pp=2), devices_per_node=8)
    assert {name: (spans[name].size, spans[name].per_node) for name in ("tp", "fsdp", "dp", "pp")} == {
        "tp": (4, 4),
        "fsdp": (2, 2),
        "dp": (2, 1),
        "pp": (2, 1),
    }
    assert spans["dp"].num_nodes == 2
