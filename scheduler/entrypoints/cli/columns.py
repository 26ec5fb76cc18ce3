"""Plain-text tables."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence


def table(
    rows: Sequence[Sequence[str]], *, header: Sequence[str] | None = None, right: frozenset[int] = frozenset()
) -> list[str]:
    """Rows in aligned columns, two spaces apart; ``right`` names the columns that are right-aligned. Nothing is cut."""
    everything = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    if not everything:
        return []
    widths = [max(len(row[index]) for row in everything) for index in range(len(everything[0]))]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in everything
    ]


def wrapped(text: str, *, width: int, first: str = "", rest: str | None = None) -> list[str]:
    """``text`` in lines of at most ``width``, the first behind ``first``, the others behind ``rest`` (or as many spaces)."""
    indent = " " * len(first) if rest is None else rest
    lines = textwrap.wrap(
        text, width=max(width, 24), initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines or [first.rstrip()]


def bar(frac: float, width: int) -> str:
    """A horizontal bar of ``frac`` of ``width`` cells, in eighths."""
    eighths = round(max(0.0, min(1.0, frac)) * width * 8)
    full, part = divmod(eighths, 8)
    return "█" * full + ("▏▎▍▌▋▊▉"[part - 1] if part else "")
