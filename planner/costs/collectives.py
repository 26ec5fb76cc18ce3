"""Volume and latency of collectives, and how the ranks of each group lie on nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.costs.types import RankSpan
from trimtab.inventory import ProbeKernel

if TYPE_CHECKING:
    from planner.costs.types import Exchange
    from trimtab.strategy import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveLink:
    """What collectives reach on one level: bytes per second of one rank, and seconds per message."""

    bandwidth_bytes_per_s: float
    latency_s: float


def group_spans(strategy: Strategy, devices_per_node: int) -> dict[str, RankSpan]:
    """Ranks of a node in each group; rank order from the inside out: tp, cp, fsdp, dp, pp (see ``Strategy``)."""
    spans: dict[str, RankSpan] = {}
    stride = 1
    for name, size in (
        ("tp", strategy.tp),
        ("cp", strategy.cp),
        ("fsdp", strategy.fsdp),
        ("dp", strategy.dp),
        ("pp", strategy.pp),
    ):
        per_node = max(1, min(size, devices_per_node // stride if stride <= devices_per_node else 1))
        spans[name] = RankSpan(size=size, per_node=per_node)
        stride *= size
    if strategy.pp > 1:
        spans["pp ends"] = RankSpan(size=2, per_node=2 if spans["pp"].num_nodes == 1 else 1)
    data = strategy.fsdp * strategy.dp
    inner = strategy.tp * strategy.cp
    spans["data"] = RankSpan(size=data, per_node=max(1, min(data, devices_per_node // inner if inner <= devices_per_node else 1)))
    spans["all"] = RankSpan(size=strategy.world_size, per_node=max(1, min(strategy.world_size, devices_per_node)))
    return spans


def ring_volume_frac(kernel: ProbeKernel, num_ranks: int) -> float:
    """Bytes that each rank sends, as a share of the full tensor: 2(n-1)/n for an all-reduce, (n-1)/n for gather and scatter."""
    if kernel is ProbeKernel.SEND_RECEIVE:
        return 1.0
    share = (num_ranks - 1) / num_ranks
    return 2.0 * share if kernel is ProbeKernel.ALL_REDUCE else share


def ring_hops(kernel: ProbeKernel, num_ranks: int) -> int:
    """Messages that follow each other in a ring."""
    if kernel is ProbeKernel.SEND_RECEIVE:
        return 1
    return 2 * (num_ranks - 1) if kernel is ProbeKernel.ALL_REDUCE else num_ranks - 1


def ring_seconds(exchange: Exchange, span: RankSpan, *, inner: CollectiveLink, outer: CollectiveLink) -> float:
    """``max((N-1)/N V/(r B_net), (n-1)/n V/B_link) + latency x hops``: N nodes, n ranks, r ranks of a node share its network.

    All-reduce moves the volume twice. A group of one costs nothing.
    """
    if span.size == 1:
        return 0.0
    twice = 2.0 if exchange.kernel is ProbeKernel.ALL_REDUCE else 1.0
    if exchange.kernel is ProbeKernel.SEND_RECEIVE:
        link = inner if span.per_node > 1 else outer
        return exchange.num_bytes / link.bandwidth_bytes_per_s + link.latency_s
    inside = (span.per_node - 1) / span.per_node
    across = (span.num_nodes - 1) / span.num_nodes
    volume_s = max(
        twice * inside * exchange.num_bytes / inner.bandwidth_bytes_per_s,
        twice * across * exchange.num_bytes / (span.per_node * outer.bandwidth_bytes_per_s),
    )
    hops = twice * ((span.per_node - 1) * inner.latency_s + (span.num_nodes - 1) * outer.latency_s)
    return volume_s + hops
