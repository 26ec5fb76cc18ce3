"""The plot of candidates as characters: time against cost, the front, and memory bars. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scheduler.entrypoints.cli.columns import bar
from scheduler.entrypoints.cli.plotaxes import Axis, axis_of, time_unit
from scheduler.entrypoints.cli.words import bytes_text, digits, percent_text, usd_text
from scheduler.service.pareto import MemoryBar, Picture, PlotPoint

Style = Callable[..., str]
WIDTH, HEIGHT = 70, 20
_MIN_WIDTH = 30
_FILLED, _HOLLOW = "●■▲◆▼★", "○□△◇▽☆"
_COLOURS = ("blue", "yellow", "green", "cyan", "red", "dim")
_MARK, _LINE = "✚", "·"
_BAR_WIDTH = 30


@dataclass(slots=True, kw_only=True)
class _Canvas:
    """Cells of one character with its styles and rank: a higher rank covers a lower one."""

    width: int
    height: int
    cells: dict[tuple[int, int], tuple[int, str, tuple[str, ...]]] = field(default_factory=dict)

    def put(self, place: tuple[int, int], rank: int, text: str, *styles: str) -> None:
        if self.cells.get(place, (-1, "", ()))[0] < rank:
            self.cells[place] = (rank, text, styles)

    def row(self, y: int, style: Style) -> str:
        """A row from its left end, without blanks at its right one."""
        cells = [self.cells.get((x, y)) for x in range(self.width)]
        while cells and cells[-1] is None:
            cells.pop()
        return "".join(" " if cell is None else style(cell[1], *cell[2]) for cell in cells)


def plot_lines(shown: Picture, *, width: int, style: Style) -> list[str]:
    """The plot in at most ``width`` columns: ``WIDTH`` x ``HEIGHT`` characters where that fits beside the labels."""
    if not shown.points:
        return ["nothing to plot: no candidate's time is predicted"]
    scale, unit = time_unit([point.time_h.value for point in shown.points])
    times = axis_of([point.time_h.value / scale for point in shown.points])
    costs = axis_of([point.cost_usd.value for point in shown.points])
    labels = {_row_of(costs, tick): usd_text(tick) for tick in costs.ticks}
    gutter = max(len(text) for text in labels.values()) if labels else 0
    canvas = _Canvas(width=max(_MIN_WIDTH, min(WIDTH, width - gutter - 2)), height=HEIGHT)
    places = [
        (_column_of(times, point.time_h.value / scale, canvas.width), _row_of(costs, point.cost_usd.value))
        for point in shown.points
    ]
    _draw(canvas, shown, places)
    lines = [style(shown.title, "bold"), f"{'cost'.rjust(gutter)}"]
    for y in range(HEIGHT):
        edge = "┤" if y in labels else "│"
        lines.append(f"{labels.get(y, '').rjust(gutter)} {edge}{canvas.row(y, style)}".rstrip())
    lines += _time_axis(times, canvas.width, gutter, f"time of the run ({unit})")
    return [*lines, "", *_legend(shown, style), *_bars(shown.bars, style)]


def _column_of(axis: Axis, value: float, width: int) -> int:
    return min(width - 1, max(0, round(axis.place(value) * (width - 1))))


def _row_of(axis: Axis, value: float) -> int:
    return min(HEIGHT - 1, max(0, round((1.0 - axis.place(value)) * (HEIGHT - 1))))


def _draw(canvas: _Canvas, shown: Picture, places: Sequence[tuple[int, int]]) -> None:
    for one, other in zip(shown.front, shown.front[1:], strict=False):
        for place in _between(places[one], places[other]):
            canvas.put(place, 1, _LINE, "dim")
    for point, place in zip(shown.points, places, strict=True):
        index = shown.device_types.index(point.device_type)
        canvas.put(place, _rank(point), _symbol(point, index), *_styles(point, index))


def _rank(point: PlotPoint) -> int:
    if point.marked:
        return 5
    if point.on_front:
        return 4
    return 3 if point.feasible else 2


def _symbol(point: PlotPoint, index: int) -> str:
    if point.marked:
        return _MARK
    return (_FILLED if point.feasible else _HOLLOW)[index % len(_FILLED)]


def _styles(point: PlotPoint, index: int) -> tuple[str, ...]:
    colour = _COLOURS[index % len(_COLOURS)]
    return ("bold", colour) if point.marked or point.on_front else (colour,)


def _between(one: tuple[int, int], other: tuple[int, int]) -> list[tuple[int, int]]:
    """Cells on the straight line between two cells."""
    steps = max(abs(one[0] - other[0]), abs(one[1] - other[1]))
    return [
        (round(one[0] + (other[0] - one[0]) * k / steps), round(one[1] + (other[1] - one[1]) * k / steps))
        for k in range(1, steps)
    ]


def _time_axis(axis: Axis, width: int, gutter: int, title: str) -> list[str]:
    edge, labels = ["─"] * width, [" "] * width
    free_from = 0
    for tick in axis.ticks:
        column, text = _column_of(axis, tick, width), digits(tick) if tick < 1000 else f"{tick:,.0f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        start = min(width - len(text), max(0, column - len(text) // 2))
        edge[column] = "┬"
        if start >= free_from:
            labels[start : start + len(text)] = text
            free_from = start + len(text) + 1
    indent = " " * (gutter + 2)
    return [
        f"{' ' * gutter} └{''.join(edge)}",
        f"{indent}{''.join(labels)}".rstrip(),
        f"{indent}{title.center(width)}".rstrip(),
    ]


def _legend(shown: Picture, style: Style) -> list[str]:
    kinds = [
        f"{style(_FILLED[index % len(_FILLED)], _COLOURS[index % len(_COLOURS)])} {name}"
        for index, name in enumerate(shown.device_types)
    ]
    parts = ["   ".join(kinds)]
    over = sum(not point.feasible for point in shown.points)
    if over:
        hollow = "".join(_HOLLOW[index % len(_HOLLOW)] for index in range(len(shown.device_types)))
        parts.append(f"{hollow} over a limit of the job ({over:,} of {len(shown.points):,})")
    line = f"{_LINE} front: nothing is both faster and cheaper ({len(shown.front)})"
    marked = next((point for point in shown.points if point.marked), None)
    if marked is not None:
        parts.append(f"{style(_MARK, 'bold')} {shown.mark}: {marked.label}")
    return [f"  {part}" for part in [*parts, line]] + [""]


def _bars(bars: Sequence[MemoryBar], style: Style) -> list[str]:
    if not bars:
        return []
    lines = [style("MEMORY OF THE FULLEST RANK", "bold") + "  against its device"]
    for entry in bars:
        share = entry.total_bytes.value / entry.capacity_bytes
        drawn = bar(share, _BAR_WIDTH).ljust(_BAR_WIDTH, "░")
        size = f"{bytes_text(entry.total_bytes.value)} of {bytes_text(entry.capacity_bytes)}, {percent_text(share)}"
        largest = sorted(entry.parts, key=lambda part: -part[1])[:2]
        words = ", ".join(f"{name} {bytes_text(amount)}" for name, amount in largest if amount > 0)
        lines.append(f"  {style(entry.label, 'bold') if entry.marked else entry.label}")
        lines.append(f"    {style(drawn, 'cyan')}  {size}: {words}")
    return lines
