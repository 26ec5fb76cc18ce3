"""Collectives of many strategies at once: how a group lies on links and network, and what an exchange costs there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.strategies.table import BoolArray
from planner.training.knobs import Knobs
from planner.training.places import Array, PlaceArrays


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankSet:
    """A group of ranks per strategy: ``size`` ranks, ``inside`` of them in one domain; shape [N]."""

    size: Array
    inside: Array

    @property
    def outside(self) -> Array:
        """Domains that the group touches."""
        return self.size / self.inside


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wires:
    """What exchanges run over: the place, and the constants that say what programs reach of it."""

    place: PlaceArrays
    knobs: Knobs

    @property
    def link(self) -> Array:
        """Bytes per second of one device inside its domain, as collectives reach it."""
        return self.place.link * self.knobs.link_share(self.place)

    @property
    def network(self) -> Array:
        """Bytes per second of one device over the network, as collectives reach it."""
        return self.place.network * self.knobs.network_share(self.place)


def group(size: Array, stride: Array, place: PlaceArrays) -> RankSet:
    """The group of ``size`` ranks that lie ``stride`` ranks apart (ranks fill a domain from the inside out)."""
    fitting = np.maximum(1.0, np.floor(place.domain / stride))
    return RankSet(size=size, inside=np.minimum(size, fitting))


def gather_s(volume: Array, members: RankSet, wires: Wires) -> Array:
    """Seconds of an all-gather or reduce-scatter of ``volume`` bytes (the whole tensor) in rings over links and network.

    ``max((r-1)/r V / B_link, (N-1)/N V / (r B_network)) + hops``: N domains of r ranks, each of which has its share of the
    network (NCCL's performance notes; planner.md 4.3).
    """
    inner = volume * (members.inside - 1.0) / members.inside / (wires.link)
    outer = volume * (members.outside - 1.0) / members.outside / (members.inside * wires.network)
    hops = (members.size - members.outside) * wires.knobs.link_latency_s + (members.outside - 1.0) * wires.knobs.network_latency_s
    return np.maximum(inner, outer) + np.where(members.size > 1, hops, 0.0)


def reduce_s(volume: Array, members: RankSet, wires: Wires) -> Array:
    """Seconds of an all-reduce: twice the volume; its start-up grows with the depth of a tree over the domains."""
    inner = 2.0 * volume * (members.inside - 1.0) / members.inside / (wires.link)
    outer = 2.0 * volume * (members.outside - 1.0) / members.outside / (members.inside * wires.network)
    hops = (
        2.0 * (members.inside - 1.0) * wires.knobs.link_latency_s + 2.0 * np.log2(members.outside) * wires.knobs.network_latency_s
    )
    return np.maximum(inner, outer) + np.where(members.size > 1, hops, 0.0)


def exchange_s(volume: Array, members: RankSet, wires: Wires, *, outer_share: Array) -> Array:
    """Seconds of an all-to-all in which each rank holds ``volume`` bytes: what stays in the domain crosses links, the rest the
    network.

    ``outer_share`` of what leaves the domain really crosses the network (below 1 where copies for one domain travel once).
    """
    inner = volume * (members.inside - 1.0) / members.size / (wires.link * wires.knobs.scatter_share)
    leaving = outer_share * volume * (members.size - members.inside) / members.size
    outer = leaving / (wires.network * wires.knobs.scatter_share)
    hops = np.where(members.size > 1, wires.knobs.link_latency_s + (members.outside > 1) * wires.knobs.network_latency_s, 0.0)
    return np.maximum(inner, outer) + hops


def send_s(volume: Array, crosses: BoolArray, wires: Wires) -> Array:
    """Seconds of sending ``volume`` bytes to one other rank, over the network where ``crosses``."""
    inner = volume / (wires.link) + wires.knobs.link_latency_s
    outer = volume / (wires.network * wires.knobs.pipe_share) + wires.knobs.network_latency_s
    return np.where(crosses, outer, inner)
