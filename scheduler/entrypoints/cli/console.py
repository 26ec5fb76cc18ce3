"""Where words go: results to stdout, everything else to stderr; colour only on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from typing import TextIO

MAX_WIDTH = 120
PIPE_WIDTH = 100

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
}


class Console:
    """Both streams with their abilities. ``--no-color``, NO_COLOR, TERM=dumb or a pipe: plain text."""

    def __init__(self, *, colour: bool = True) -> None:
        allowed = colour and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.out_is_terminal = _is_terminal(sys.stdout)
        self.err_is_terminal = _is_terminal(sys.stderr)
        self.out_colour = allowed and self.out_is_terminal
        self.err_colour = allowed and self.err_is_terminal

    @property
    def width(self) -> int:
        """Columns to fill: the terminal's (at most 120), 100 in a pipe."""
        if not self.out_is_terminal:
            return PIPE_WIDTH
        return max(60, min(MAX_WIDTH, shutil.get_terminal_size().columns))

    def result(self, text: str) -> None:
        """A result, to stdout."""
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()

    def lines(self, lines: Iterable[str]) -> None:
        """Lines of a result, to stdout."""
        self.result("\n".join(lines))

    def note(self, text: str) -> None:
        """Something to know, to stderr."""
        print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """A warning, to stderr."""
        self.note(f"{self.err_style('warning:', 'yellow')} {text}")

    def error(self, text: str) -> None:
        """An error, to stderr."""
        self.note(f"{self.err_style('error:', 'red', 'bold')} {text}")

    def style(self, text: str, *names: str) -> str:
        """``text`` for stdout in these styles."""
        return paint(text, *names) if self.out_colour else text

    def err_style(self, text: str, *names: str) -> str:
        """``text`` for stderr in these styles."""
        return paint(text, *names) if self.err_colour else text


def paint(text: str, *names: str) -> str:
    """``text`` wrapped in terminal codes."""
    if not text or not names:
        return text
    return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
