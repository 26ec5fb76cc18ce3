"""Kernel times from the printed figures of a device type: an additive roofline.

``seconds = flops / (peak x share) + bytes / (bandwidth x share) + launch``. The sum (not the maximum) gives the loss of small
shapes without a table; matrix shares, link shares and latencies are the constants of ``constants.ROOFLINE``.
Collectives: ring volume over the slowest link of the group plus latency per hop (NVIDIA/nccl-tests doc/PERFORMANCE.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.costs.collectives import CollectiveLink, ring_seconds
from planner.costs.constants import ROOFLINE
from planner.costs.kernels import arithmetic
from planner.costs.types import ConstantLog, Seconds
from trimtab.estimate import Constant, Origin
from trimtab.inventory import DeviceKind, ProbeKernel
from trimtab.strategy import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from planner.costs.constants import Bounded
    from planner.costs.types import DeviceContext, Exchange, RankSpan, Work
    from trimtab.inventory import Link

_ATTENTION = (ProbeKernel.ATTENTION_FORWARD, ProbeKernel.ATTENTION_BACKWARD)
_FALLBACKS: dict[Precision, tuple[Precision, ...]] = {
    Precision.FP8: (Precision.BF16, Precision.FP16),
    Precision.MXFP8: (Precision.FP8, Precision.BF16),
    Precision.NVFP4: (Precision.FP8, Precision.BF16),
    Precision.BF16: (Precision.FP16, Precision.FP32),
    Precision.FP16: (Precision.BF16, Precision.FP32),
    Precision.TF32: (Precision.FP32,),
    Precision.FP32: (),
    Precision.FP64: (),
}


class RooflineTimes:
    """The provider that needs no measurement."""

    def __init__(self, context: DeviceContext, *, num_ranks: int) -> None:
        self._made_from = (context, num_ranks)
        self._device = context.device_type
        self._shares = ROOFLINE[context.device_type.kind]
        self._links = (context.pool.node_link or context.device_type.link, context.network)
        self._pool = context.pool
        self._busy = num_ranks > 1
        self._log = ConstantLog()
        self.overlaps = context.device_type.kind is not DeviceKind.CPU

    def constants(self) -> tuple[Constant, ...]:
        """Printed figures and shares that were used."""
        return self._log.all()

    def renewed(self) -> RooflineTimes:
        """The same provider, with no figures used so far."""
        context, num_ranks = self._made_from
        return RooflineTimes(context, num_ranks=num_ranks)

    def kernel(self, work: Work, precision: Precision) -> Seconds:
        """See the module's formula. Launches and the start of a rank are constants."""
        fixed = self._fixed(work.kernel)
        error = self._shares.error_frac.value
        if fixed is not None:
            return Seconds(value=self._use(fixed), error_frac=error)
        flops, num_bytes = arithmetic(work, precision)
        seconds = self._use(self._shares.launch_s)
        if flops:
            share = self._shares.attention_share_frac if work.kernel in _ATTENTION else self._shares.matmul_share_frac
            seconds += flops / (self._peak(precision) * self._use(share))
        bandwidth = self._figure(
            "memory_bandwidth_bytes_per_s", self._device.memory_bandwidth_bytes_per_s, "memory_bandwidth_gb_per_s"
        )
        seconds += num_bytes / (bandwidth * self._use(self._shares.bandwidth_share_frac))
        if self._busy:
            seconds *= 1.0 + self._use(self._shares.compute_slowdown_frac)
        return Seconds(value=seconds, error_frac=error)

    def exchange(self, exchange: Exchange, spans: Mapping[str, RankSpan]) -> Seconds:
        """Ring time over the links that the group spans."""
        span = spans[exchange.group]
        inner = self._link(
            self._links[0],
            self._shares.link_bandwidth_bytes_per_s,
            self._shares.link_latency_s,
            figure="link_bandwidth_gb_per_s" if self._links[0] == self._device.link else None,
        )
        outer = self._link(
            self._links[1],
            self._shares.network_bandwidth_bytes_per_s,
            self._shares.network_latency_s,
            figure="network_bandwidth_gb_per_s" if self._pool.network is None else None,
        )
        seconds = ring_seconds(exchange, span, inner=inner, outer=outer)
        return Seconds(value=seconds, error_frac=self._shares.error_frac.value)

    def _fixed(self, kernel: ProbeKernel) -> Bounded | None:
        return {
            ProbeKernel.LAUNCH: self._shares.launch_s,
            ProbeKernel.UNIT_LAUNCH: self._shares.unit_launch_s,
            ProbeKernel.CHECKPOINT_LAUNCH: self._shares.checkpoint_launch_s,
            ProbeKernel.RANK_START: self._shares.rank_start_s,
        }.get(kernel)

    def _link(self, link: Link | None, bandwidth: Bounded, latency: Bounded, *, figure: str | None) -> CollectiveLink:
        share = self._use(self._shares.link_share_frac)
        if link is None:
            return CollectiveLink(bandwidth_bytes_per_s=self._use(bandwidth) * share, latency_s=self._use(latency))
        printed = self._figure(f"link {link.name}", link.bandwidth_bytes_per_s, figure)
        return CollectiveLink(bandwidth_bytes_per_s=printed * share, latency_s=max(link.latency_s, 0.0))

    def _peak(self, precision: Precision) -> float:
        peaks = self._device.peak_flops
        for candidate in (precision, *_FALLBACKS[precision]):
            if peaks.get(candidate):
                return self._figure(f"peak {candidate}", peaks[candidate], f"peak_{candidate}_tflops")
        if precision is Precision.FP64 and peaks.get(Precision.FP32):
            return self._figure("peak fp32, halved", peaks[Precision.FP32] / 2, "peak_fp32_tflops")
        if not peaks:
            raise ValueError(f"device type {self._device.name} names no peak_flops")
        return self._figure("lowest peak", min(peaks.values()))

    def _figure(self, name: str, value: float, figure: str | None = "") -> float:
        """Notes a figure of the device type; ``figure`` is its name in the catalogue, by which its own origin is known.

        None: it is the pool's own.
        """
        usual = ", ".join(part for part in (self._device.source, self._device.retrieved_on) if part)
        source = f"pool {self._pool.id} of the inventory" if figure is None else self._device.origins.get(figure, usual)
        origin = Origin.MEASURED if "measured" in source else Origin.PUBLISHED
        if source.startswith("assumed"):
            origin = Origin.ASSUMED
        return self._log.note(Constant(name=f"{self._device.name} {name}", value=value, origin=origin, source=source))

    def _use(self, bounded: Bounded) -> float:
        return self._log.note(bounded.constant())
