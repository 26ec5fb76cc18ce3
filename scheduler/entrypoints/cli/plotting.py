"""The plot of candidates as SVG or PNG. The same picture gives the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from scheduler.entrypoints.cli.plotaxes import Axis, axis_of, time_unit
from scheduler.entrypoints.cli.words import digits, usd_text
from scheduler.service.figures import Span
from scheduler.service.pareto import MemoryBar, Picture, PlotPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TYPE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito's palette, whose colours are told apart with every common colour blindness."""
_PART_COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#999999")
_MARKERS = "osD^vP"
_INK = "#222222"
_GIB = 1024.0**3
_SIZE_INCHES = (13.0, 6.2)
_DPI = 150
_SETTINGS: Any = {
    "svg.hashsalt": "trimtab",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"],
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
}


def write_plot(shown: Picture, path: Path) -> None:
    """Draw into a file; its ending (``.svg`` or ``.png``) says how. Raises OSError where it cannot be written."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        if shown.bars:
            scatter, memory = figure.subplots(1, 2, width_ratios=(1.75, 1.0))
            _draw_bars(memory, shown.bars)
        else:
            scatter = figure.subplots()
        _draw_points(scatter, shown)
        figure.suptitle(shown.title, fontsize=12, fontweight="bold", color=_INK)
        nameless = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
        figure.savefig(path, format=path.suffix.lower().removeprefix("."), metadata=nameless)


# ------------------------------------------------------------------------------------------------------- time against cost


def _draw_points(axes: Axes, shown: Picture) -> None:
    scale, unit = time_unit([point.time_h.value for point in shown.points])
    times = [end / scale for point in shown.points for end in _ends(point.time_h, point)]
    _draw_axis(axes, axis_of(times), is_x=True)
    _draw_axis(axes, axis_of([end for point in shown.points for end in _ends(point.cost_usd, point)]), is_x=False)
    axes.set_xlabel(f"time of the run ({unit})")
    axes.set_ylabel("cost of the run (US dollars)")
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    front = [shown.points[index] for index in shown.front]
    axes.plot(
        [point.time_h.value / scale for point in front],
        [point.cost_usd.value for point in front],
        color=_INK,
        linewidth=1.4,
        zorder=3,
    )
    for point in sorted(shown.points, key=lambda point: (point.on_front, point.feasible)):
        _draw_point(axes, point, shown.device_types.index(point.device_type), scale)
    below: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.12), "frameon": False}
    axes.legend(handles=_legend(shown), ncols=2, fontsize=8.5, **below)
    marked = next((point for point in shown.points if point.marked), None)
    if marked is not None:
        _draw_mark(axes, marked, scale)


def _ends(span: Span, point: PlotPoint) -> tuple[float, ...]:
    """What the axis has to hold of a point: its interval too, where that is drawn and can stand on any scale."""
    return (span.low, span.value, span.high) if (point.on_front or point.marked) and span.low > 0.0 else (span.value,)


def _draw_axis(axes: Axes, axis: Axis, *, is_x: bool) -> None:
    if axis.is_log:
        (axes.set_xscale if is_x else axes.set_yscale)("log")
    (axes.set_xlim if is_x else axes.set_ylim)(axis.low, axis.high)
    drawn = axes.xaxis if is_x else axes.yaxis
    drawn.set_major_locator(FixedLocator(axis.ticks))
    drawn.set_major_formatter(FixedFormatter([_plain(tick) if is_x else usd_text(tick) for tick in axis.ticks]))
    drawn.set_minor_locator(NullLocator())


def _plain(tick: float) -> str:
    text = digits(tick) if tick < 1000 else f"{tick:,.0f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _draw_point(axes: Axes, point: PlotPoint, index: int, scale: float) -> None:
    colour = _TYPE_COLOURS[index % len(_TYPE_COLOURS)]
    x, y = point.time_h.value / scale, point.cost_usd.value
    bold = point.on_front or point.marked
    if bold:
        axes.errorbar(
            x,
            y,
            xerr=_error(point.time_h, scale),
            yerr=_error(point.cost_usd, 1.0),
            fmt="none",
            ecolor=colour,
            elinewidth=1.0,
            capsize=2.0,
            alpha=0.45,
            zorder=2,
        )
    axes.plot(
        x,
        y,
        linestyle="none",
        marker=_MARKERS[index % len(_MARKERS)],
        markersize=8.0 if bold else 5.0,
        markerfacecolor=colour if point.feasible else "none",
        markeredgecolor=_INK if bold else colour,
        markeredgewidth=1.0 if bold else 0.8,
        alpha=1.0 if bold else 0.5,
        zorder=4 if bold else 1,
    )


def _error(span: Span, scale: float) -> list[list[float]]:
    return [[(span.value - span.low) / scale], [(span.high - span.value) / scale]]


def _draw_mark(axes: Axes, point: PlotPoint, scale: float) -> None:
    place = (point.time_h.value / scale, point.cost_usd.value)
    axes.plot(*place, linestyle="none", marker="o", markersize=17, markerfacecolor="none", markeredgecolor=_INK, zorder=5)


def _legend(shown: Picture) -> list[Line2D]:
    def dot(label: str, index: int, *, filled: bool = True, **more: Any) -> Line2D:
        colour = _TYPE_COLOURS[index % len(_TYPE_COLOURS)]
        style = {"markerfacecolor": colour if filled else "none", "markeredgecolor": colour, "markersize": 6.0, **more}
        return Line2D([], [], linestyle="none", marker=_MARKERS[index % len(_MARKERS)], label=label, **style)

    handles = [dot(name, index) for index, name in enumerate(shown.device_types)]
    over = sum(not point.feasible for point in shown.points)
    if over:
        handles.append(dot(f"hollow: over a limit of the job ({over:,} of {len(shown.points):,})", 0, filled=False))
    handles.append(Line2D([], [], color=_INK, linewidth=1.4, label="front, with 80 % intervals"))
    marked = next((point for point in shown.points if point.marked), None)
    if marked is not None:
        ring: Any = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgecolor": _INK}
        handles.append(Line2D([], [], linestyle="none", label=f"{shown.mark}: {marked.label}", **ring))
    return handles


# ----------------------------------------------------------------------------------------------------------------- memory


def _draw_bars(axes: Axes, bars: tuple[MemoryBar, ...]) -> None:
    rows = list(range(len(bars)))
    left = [0.0] * len(bars)
    names = [name for name, _ in bars[0].parts]
    for number, name in enumerate(names):
        amounts = [dict(entry.parts)[name] / _GIB for entry in bars]
        if any(amounts):
            axes.barh(
                rows, amounts, left=left, height=0.55, color=_PART_COLOURS[number], edgecolor="white", linewidth=0.3, label=name
            )
        left = [start + amount for start, amount in zip(left, amounts, strict=True)]
    for row, entry in zip(rows, bars, strict=True):
        capacity = entry.capacity_bytes / _GIB
        axes.plot([capacity, capacity], [row - 0.33, row + 0.33], color=_INK, linewidth=2.0)
        span = entry.total_bytes
        axes.errorbar(span.value / _GIB, row, xerr=_error(span, _GIB), fmt="none", ecolor=_INK, elinewidth=1.1, capsize=3.0)
        weight = "bold" if entry.marked else "normal"
        axes.text(0.0, row - 0.34, entry.label, fontsize=8.5, fontweight=weight, va="bottom", ha="left", color=_INK)
    axes.set_yticks([])
    axes.set_ylim(len(bars) - 0.4, -0.95)
    axes.set_xlim(0.0, 1.08 * max(max(entry.capacity_bytes, entry.total_bytes.high) for entry in bars) / _GIB)
    axes.set_xlabel("memory of the fullest rank (GiB)")
    handles, labels = axes.get_legend_handles_labels()
    handles.append(Line2D([], [], color=_INK, linewidth=2.0))
    labels.append("what the device has")
    axes.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=8.5, frameon=False)
    axes.spines["left"].set_visible(False)
