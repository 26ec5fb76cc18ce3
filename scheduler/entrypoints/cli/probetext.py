"""A probe report as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scheduler.entrypoints.cli.columns import table
from scheduler.entrypoints.cli.words import bytes_text, count_text, digits, moment_text, percent_text, plural, seconds_text
from trimtab.inventory import DeviceType, ProbeKernel, ProbePoint, ProbeReport

Style = Callable[..., str]
_COLLECTIVES = (ProbeKernel.ALL_REDUCE, ProbeKernel.ALL_GATHER, ProbeKernel.REDUCE_SCATTER, ProbeKernel.SEND_RECEIVE)
_MAX_ROWS = 12


def probe_lines(report: ProbeReport, *, style: Style) -> list[str]:
    """The device as measured, matrix products by size and number format, collectives by size; the rest in numbers."""
    kind, num_points = report.device_type, plural(len(report.points), "point")
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    lines = [
        style(f"Probe {report.fingerprint}", "bold") + f"  {plural(report.num_devices, 'device')} of type {kind.name}",
        f"  measured   {moment_text(report.measured_at)}, {num_points} in {seconds_text(report.duration_s)}",
        f"  versions   {versions}",
        *_device_lines(kind),
        "",
    ]
    lines += _matmul_lines(report.points, style)
    lines += _collective_lines(report.points, style)
    return lines


def _device_lines(kind: DeviceType) -> list[str]:
    lines = [f"  memory     {bytes_text(kind.memory_bytes)}, {bytes_text(kind.memory_bandwidth_bytes_per_s)}/s"]
    peaks = ", ".join(f"{count_text(value)}FLOP/s {precision}" for precision, value in kind.peak_flops.items())
    lines.append(f"  products   {peaks}")
    if kind.link is not None:
        link = kind.link
        lines.append(
            f"  {'link':<11}{link.name}: {bytes_text(link.bandwidth_bytes_per_s)}/s, {seconds_text(link.latency_s)} a message"
        )
    return lines


def _matmul_lines(points: Sequence[ProbePoint], style: Style) -> list[str]:
    found = [point for point in points if point.kernel is ProbeKernel.MATMUL and len(point.shape) == 3]
    if not found:
        return []
    rows = [
        [
            f"  {'×'.join(str(n) for n in point.shape)}",
            point.precision,
            str(point.num_ranks),
            seconds_text(point.seconds),
            f"{digits(2.0 * point.shape[0] * point.shape[1] * point.shape[2] / point.seconds / 1e9)} GFLOP/s",
            percent_text(point.spread_frac),
        ]
        for point in _thinned(sorted(found, key=lambda p: (p.precision, p.num_ranks, p.shape)))
    ]
    header = ["  matrix product", "format", "ranks", "time", "rate", "spread"]
    title, *body = table(rows, header=header, right=frozenset({2, 3, 4, 5}))
    return [style(title, "bold"), *body, ""]


def _collective_lines(points: Sequence[ProbePoint], style: Style) -> list[str]:
    found = [point for point in points if point.kernel in _COLLECTIVES and point.shape]
    if not found:
        return []
    rows = [
        [
            f"  {point.kernel}",
            str(point.num_ranks),
            bytes_text(point.shape[0]),
            seconds_text(point.seconds),
            f"{bytes_text(point.shape[0] / point.seconds)}/s",
            percent_text(point.spread_frac),
        ]
        for point in _thinned(sorted(found, key=lambda p: (p.kernel, p.num_ranks, p.shape)))
    ]
    title, *body = table(
        rows, header=["  collective", "ranks", "bytes", "time", "rate", "spread"], right=frozenset({1, 2, 3, 4, 5})
    )
    return [style(title, "bold"), *body]


def _thinned(points: list[ProbePoint]) -> list[ProbePoint]:
    """At most a screenful, evenly taken; ``-o json`` has all."""
    if len(points) <= _MAX_ROWS:
        return points
    return [points[round(index * (len(points) - 1) / (_MAX_ROWS - 1))] for index in range(_MAX_ROWS)]
