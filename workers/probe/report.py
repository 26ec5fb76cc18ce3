"""From samples to a ProbeReport: expected times, spreads, and the device type as it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from statistics import fmean

from trimtab.fingerprint import NodeFacts, slug
from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, Link, ProbeKernel, ProbePoint, ProbeReport
from workers.probe.ranks import Samples, Window
from workers.probe.timing import quantile

SOURCE = "measured by trimtab probe"
OUTLIER_RATIO = 10.0
TOGETHER = frozenset(
    {
        ProbeKernel.ALL_REDUCE,
        ProbeKernel.ALL_GATHER,
        ProbeKernel.REDUCE_SCATTER,
        ProbeKernel.SEND_RECEIVE,
        ProbeKernel.UNIT_LAUNCH,
        ProbeKernel.RANK_START,
    }
)
"""What ranks do together: the waiting is in the measured time."""
_BYTES = {"fp64": 8, "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}


def make_points(samples: Samples) -> tuple[ProbePoint, ...]:
    """One point per key, in a fixed order."""
    waiting = {count: waiting_ratio(samples, count) for count in {key[3] for key in samples}}
    points = []
    for key, windows in sorted(samples.items(), key=lambda item: item[0]):
        kernel, precision, shape, num_ranks = key
        runs = [value for window in windows for value in window.seconds]
        seconds = expected_seconds(windows)
        if kernel not in TOGETHER:
            seconds *= waiting[num_ranks]
        spread = (quantile(runs, 0.9) - quantile(runs, 0.1)) / (2 * seconds) if seconds > 0 else 0.0
        points.append(
            ProbePoint(
                kernel=kernel,
                precision=precision,
                shape=shape,
                num_ranks=num_ranks,
                seconds=seconds,
                spread_frac=round(spread, 4),
                repeats=len(runs),
            )
        )
    return tuple(points)


def expected_seconds(windows: Sequence[Window]) -> float:
    """What a run of the point adds to a step on average: the mean over its windows of their mean runs.

    A step is a sum of kernels, and the expectation of a sum is the sum of expectations, which medians are not: they hide a
    neighbour that halves the speed of a core for a third of the time. A run of more than ``OUTLIER_RATIO`` medians counts as that
    many, since one stall would be most of a short kernel's mean.
    """
    return fmean(mean for means in _means_by_rank(windows) for mean in means)


def waiting_ratio(samples: Samples, num_ranks: int) -> float:
    """How much longer than the average rank the slowest one takes, over all that ``num_ranks`` ranks ran at once.

    Ranks that meet after each piece of work wait for the slowest. Long windows count most, as their time is most: the jitter of a
    single short run is evened out between two meetings.
    """
    slowest_s = average_s = 0.0
    for (kernel, _, _, count), windows in samples.items():
        if count == num_ranks and kernel not in TOGETHER:
            for turn in zip(*_means_by_rank(windows), strict=True):
                slowest_s += max(turn)
                average_s += fmean(turn)
    return slowest_s / average_s if average_s > 0 else 1.0


def _means_by_rank(windows: Sequence[Window]) -> list[list[float]]:
    """Mean seconds of each window, stalls cut down, per rank in the order of the passes."""
    limit = OUTLIER_RATIO * quantile([value for window in windows for value in window.seconds], 0.5)
    means: dict[int, list[float]] = {}
    for window in windows:
        means.setdefault(window.rank, []).append(fmean(min(value, limit) for value in window.seconds))
    return list(means.values())


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
