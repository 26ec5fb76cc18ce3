"""From samples to a ProbeReport: medians, spreads, and the device type as it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from trimtab.fingerprint import NodeFacts, slug
from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, Link, ProbeKernel, ProbePoint, ProbeReport
from workers.probe.ranks import SampleKey
from workers.probe.timing import quantile

SOURCE = "measured by trimtab probe"
_BYTES = {"fp64": 8, "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}


def make_points(samples: Mapping[SampleKey, Sequence[float]]) -> tuple[ProbePoint, ...]:
    """One point per key, in a fixed order."""
    points = []
    for (kernel, precision, shape, num_ranks), seconds in sorted(samples.items()):
        median = quantile(seconds, 0.5)
        spread = (quantile(seconds, 0.9) - quantile(seconds, 0.1)) / (2 * median) if median > 0 else 0.0
        points.append(
            ProbePoint(
                kernel=kernel,
                precision=precision,
                shape=shape,
                num_ranks=num_ranks,
                seconds=median,
                spread_frac=round(spread, 4),
                repeats=len(seconds),
            )
        )
    return tuple(points)


def measured_device_type(
    points: Sequence[ProbePoint], *, facts: NodeFacts, kind: DeviceKind, memory_bytes: int, on: datetime
) -> DeviceType:
    """The device type with the best rates that were seen: matrix products per precision, streaming bandwidth, link."""
    name = f"cpu-{slug(facts.cpu_model)}" if kind is DeviceKind.CPU else slug(facts.gpus[0])
    return DeviceType(
        name=DeviceTypeName(name),
        kind=kind,
        memory_bytes=memory_bytes,
        peak_flops=peak_flops(points),
        memory_bandwidth_bytes_per_s=streaming_bandwidth(points),
        source=SOURCE,
        retrieved_on=on.date().isoformat(),
        link=measured_link(points),
    )


def peak_flops(points: Sequence[ProbePoint]) -> dict[str, float]:
    """Best matrix-product rate of a device alone, by precision."""
    best: dict[str, float] = {}
    for point in points:
        if point.kernel is ProbeKernel.MATMUL and point.num_ranks == 1:
            rows, inner, columns = point.shape[:3]
            best[point.precision] = max(best.get(point.precision, 0.0), 2.0 * rows * inner * columns / point.seconds)
    return best


def streaming_bandwidth(points: Sequence[ProbePoint]) -> float:
    """Bytes per second of the largest elementwise sum of a device alone."""
    largest = max((p for p in points if p.kernel is ProbeKernel.ELEMENTWISE and p.num_ranks == 1), key=lambda p: p.shape)
    elements, operands = largest.shape
    return elements * operands * _BYTES[largest.precision] / largest.seconds


def measured_link(points: Sequence[ProbePoint]) -> Link | None:
    """Latency of the smallest and bandwidth of the largest message between two ranks; None where one device was probed."""
    messages = sorted((p for p in points if p.kernel is ProbeKernel.SEND_RECEIVE and p.num_ranks == 2), key=lambda p: p.shape)
    if len(messages) < 2:
        return None
    first, last = messages[0], messages[-1]
    return Link(
        name="between ranks of a node",
        bandwidth_bytes_per_s=last.shape[0] / max(last.seconds - first.seconds, 1e-9),
        latency_s=first.seconds,
    )


def make_report(
    points: Sequence[ProbePoint], *, device_type: DeviceType, facts: NodeFacts, num_devices: int, span: tuple[datetime, datetime]
) -> ProbeReport:
    """The document. ``span`` is when measuring began and ended (aware)."""
    return ProbeReport(
        fingerprint=facts.fingerprint(),
        device_type=device_type,
        num_devices=num_devices,
        points=tuple(points),
        measured_at=span[1],
        versions=dict(facts.versions),
        duration_s=(span[1] - span[0]).total_seconds(),
    )
