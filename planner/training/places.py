"""Where strategies run, as arrays: peaks, bandwidths, and how the ranks of each group lie on links and network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from planner.strategies.table import PRECISIONS, StrategyTable
from trimtab.inventory import DeviceKind, DeviceType, Link
from trimtab.strategy import Precision

Array = NDArray[np.float64]

FALLBACKS: dict[Precision, tuple[Precision, ...]] = {
    Precision.NVFP4: (Precision.FP8, Precision.BF16, Precision.FP16),
    Precision.MXFP8: (Precision.FP8, Precision.BF16, Precision.FP16),
    Precision.FP8: (Precision.BF16, Precision.FP16),
    Precision.BF16: (Precision.FP16, Precision.FP32),
    Precision.FP16: (Precision.BF16, Precision.FP32),
    Precision.TF32: (Precision.FP32,),
    Precision.FP32: (),
    Precision.FP64: (),
}
"""Formats whose peak stands in where a device type prints none for a precision: the arithmetic that it really does."""

_HALF = (Precision.BF16, Precision.FP16, Precision.FP32)
_UNNAMED = Link(name="PCIe 4.0 x16 (assumed)", bandwidth_bytes_per_s=25e9, latency_s=8e-6)
_UNNAMED_NETWORK = Link(name="200 Gbit/s per device (assumed)", bandwidth_bytes_per_s=25e9, latency_s=14e-6)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlaceArrays:
    """Places of strategies; shape [M] (1, or one per strategy), ``peak`` [number of precisions, M].

    ``peak`` in FLOP/s by precision, ``half_peak`` that of 16-bit arithmetic (attention stays there); bandwidths in bytes/s of one
    device, one way. ``host_link`` leads to the host's memory.
    A ``domain`` is what the links join: an NVLink domain, a TPU slice, a node. Beyond it is the network.
    """

    peak: Array
    half_peak: Array
    memory_bytes: Array
    memory_bandwidth: Array
    link: Array
    network: Array
    host_link: Array
    domain: Array
    devices_per_node: Array
    is_tpu: Array

    def peak_of(self, table: StrategyTable) -> Array:
        """FLOP/s of each strategy's precision, shape [N]."""
        if self.peak.shape[1] == 1:
            return np.asarray(self.peak[table.precision, 0])
        return np.asarray(self.peak[table.precision, np.arange(len(table))])


def place_arrays(
    device: DeviceType,
    *,
    devices_per_node: int,
    link: Link | None = None,
    network: Link | None = None,
    domain: int | None = None,
) -> PlaceArrays:
    """The arrays of one place, M = 1. ``domain`` in devices; by default the device type's domain, at most what a node or slice
    has.
    """
    wires = link or device.link or _UNNAMED
    outside = network or device.network or _UNNAMED_NETWORK
    size = domain or max(1, device.domain_size if device.domain_size > 1 else devices_per_node)

    def single(value: float) -> Array:
        return np.array([float(value)])

    return PlaceArrays(
        peak=np.array([[_peak(device, precision)] for precision in PRECISIONS]),
        half_peak=single(max(_peak(device, precision) for precision in _HALF)),
        memory_bytes=single(device.memory_bytes),
        memory_bandwidth=single(device.memory_bandwidth_bytes_per_s),
        link=single(wires.bandwidth_bytes_per_s),
        network=single(outside.bandwidth_bytes_per_s),
        host_link=single(_host_link(device)),
        domain=single(size),
        devices_per_node=single(devices_per_node),
        is_tpu=single(device.kind is DeviceKind.TPU),
    )


def joined_places(places: Sequence[PlaceArrays]) -> PlaceArrays:
    """Several places side by side, M = their number."""
    return PlaceArrays(
        **{field.name: np.concatenate([getattr(place, field.name) for place in places], axis=-1) for field in fields(PlaceArrays)}
    )


def _host_link(device: DeviceType) -> float:
    known = device.storage.host_link_bytes_per_s if device.storage is not None else None
    return known or _UNNAMED.bandwidth_bytes_per_s


def _peak(device: DeviceType, precision: Precision) -> float:
    for candidate in (precision, *FALLBACKS[precision]):
        if str(candidate) in device.peak_flops:
            return device.peak_flops[str(candidate)]
    return max(device.peak_flops.values(), default=1e12)
