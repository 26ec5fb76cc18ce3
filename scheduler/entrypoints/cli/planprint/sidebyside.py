"""Two plans side by side, with what differs and whether it is more than the predictions' own error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scheduler.entrypoints.cli.columns import wrapped
from scheduler.entrypoints.cli.words import (
    bytes_text,
    change_text,
    count_text,
    digits,
    percent_text,
    seconds_text,
    span_text,
    usd_text,
)
from scheduler.service.comparison import ComparedChoice, ComparedFigure, Comparison, FigureUnit
from scheduler.service.figures import Span

Style = Callable[..., str]
_MARK = "≠"
_SAME_FRAC = 0.0005
_TIME_WORDS = ("faster", "slower", "takes {} times as long")
_MONEY_WORDS = ("cheaper", "dearer", "costs {} times as much")
_DIMENSIONS = {
    "dp": "replicas (dp)",
    "fsdp": "sharding ranks (fsdp)",
    "zero_stage": "ZeRO stage",
    "tp": "tensor (tp)",
    "sequence_parallel": "sequence parallel",
    "cp": "context (cp)",
    "pp": "pipeline (pp)",
    "virtual_stages": "virtual stages",
    "ep": "expert (ep)",
    "etp": "expert tensor (etp)",
    "micro_batch": "micro-batch",
    "num_micro_batches": "micro-batches",
    "stage_layers": "layers of stages",
    "global_batch": "global batch",
}


def comparison_lines(found: Comparison, *, width: int, style: Style) -> list[str]:
    """The whole page; sides are A and B."""
    lines = [f"{style('A', 'bold')}  {found.name_a}", f"{style('B', 'bold')}  {found.name_b}", ""]
    for warning in found.warnings:
        first, *rest = wrapped(warning, width=width, first="warning: ")
        lines += [first.replace("warning:", style("warning:", "yellow"), 1), *rest]
    if found.warnings:
        lines.append("")
    rows = [("", "A", "B", "B AGAINST A", False)]
    rows += [_choice(choice) for choice in found.choices]
    rows += [_choice(choice, _DIMENSIONS) for choice in found.strategy]
    sections = list(dict.fromkeys(figure.section for figure in found.figures))
    breaks = {0: "", 1: "WHAT IS CHOSEN", 1 + len(found.choices): "STRATEGY"}
    for section in sections:
        breaks[len(rows)] = _title(section)
        rows += [_figure(figure) for figure in found.figures if figure.section == section]
    return [*lines, *_laid_out(rows, breaks, style), *_verdicts(found, width=width, style=style)]


_Row = tuple[str, str, str, str, bool]


def _title(section: str) -> str:
    return section.upper()


def _laid_out(rows: Sequence[_Row], breaks: dict[int, str], style: Style) -> list[str]:
    """Rows in columns; a marked row differs. ``breaks`` are the titles that stand before a row."""
    widths = [max(len(str(row[column])) for row in rows) for column in range(3)]
    lines: list[str] = []
    for index, (name, a, b, against, marked) in enumerate(rows):
        title = breaks.get(index)
        if title:
            lines.append(style(title, "bold"))
        mark = style(_MARK, "yellow") if marked else " "
        text = f"{mark} {name.ljust(widths[0])}  {a.ljust(widths[1])}  {b.ljust(widths[2])}  {against}".rstrip()
        lines.append(style(text, "bold") if index == 0 else text)
    return [*lines, ""]


def _choice(choice: ComparedChoice, names: dict[str, str] | None = None) -> _Row:
    name = (names or {}).get(choice.name, choice.name.replace("_", " "))
    return name, choice.a or "-", choice.b or "-", "", choice.differs


def _figure(figure: ComparedFigure) -> _Row:
    name = f"  {figure.name}" if figure.is_part else figure.name
    a, b = (_text(side, figure.unit) for side in (figure.a, figure.b))
    return name, a, b, _against(figure), False


def _text(span: Span | None, unit: FigureUnit) -> str:
    if span is None:
        return "-"
    if unit is FigureUnit.PER_SECOND:
        ends = "" if span.is_exact else f" ({count_text(span.low)}–{count_text(span.high)})"
        return f"{count_text(span.value)}{ends}"
    if unit in (FigureUnit.SECONDS, FigureUnit.BYTES, FigureUnit.USD) and not span.is_exact:
        return span_text(span.value, span.low, span.high, unit=unit.value)
    return _amount(span.value, unit)


def _amount(value: float, unit: FigureUnit) -> str:
    return {
        FigureUnit.SECONDS: seconds_text,
        FigureUnit.BYTES: bytes_text,
        FigureUnit.USD: usd_text,
        FigureUnit.USD_PER_HOUR: lambda amount: f"{usd_text(amount)}/h",
        FigureUnit.PER_SECOND: count_text,
        FigureUnit.FRACTION: percent_text,
    }[unit](value)


def _against(figure: ComparedFigure) -> str:
    """``−11.7 s, ×0.26; intervals apart``."""
    if figure.difference is None or figure.a is None or figure.b is None:
        return ""
    if figure.unit is FigureUnit.FRACTION:
        return ""
    if figure.ratio is not None and abs(figure.ratio - 1.0) < _SAME_FRAC:
        return "the same"
    sign = "−" if figure.difference < 0 else "+"
    text = f"{sign}{_amount(abs(figure.difference), figure.unit)}"
    if figure.ratio is not None:
        text += f", ×{digits(figure.ratio)}" if figure.ratio > 0 else ""
    if figure.overlap is None:
        return text
    return f"{text}; intervals {'overlap' if figure.overlap else 'apart'}"


def _verdicts(found: Comparison, *, width: int, style: Style) -> list[str]:
    """One sentence on time and one on money."""
    lines: list[str] = []
    time = found.figure("whole run")
    if time is None or time.ratio is None:
        time = found.figure("step time")
    for figure, words in ((time, _TIME_WORDS), (found.figure("cost"), _MONEY_WORDS)):
        if figure is not None and figure.ratio is not None:
            lines += wrapped(_sentence(figure, words), width=width)
    return [style(line, "bold") for line in lines] or ["neither time nor cost is predicted for both"]


def _sentence(figure: ComparedFigure, words: tuple[str, str, str]) -> str:
    assert figure.a is not None
    assert figure.b is not None
    assert figure.ratio is not None
    less, more, many = words
    if abs(figure.ratio - 1.0) < _SAME_FRAC:
        return f"{figure.name}: A and B are the same"
    if figure.ratio >= 1.995:
        text = f"{figure.name}: B {many.format(digits(figure.ratio, 2))}"
    else:
        change = change_text(figure.b.value, figure.a.value).lstrip("+−")
        text = f"{figure.name}: B is {change} {less if figure.ratio < 1.0 else more}"
    if figure.overlap is None:
        return text
    if figure.overlap:
        return f"{text}; the 80 % intervals overlap: measure before you believe it"
    return f"{text}; the 80 % intervals lie apart"
