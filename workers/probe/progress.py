"""A progress bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

from typing import TextIO

WIDTH = 30
PLAIN_STEPS = 4


class ProgressLine:
    """Shows the share done on ``stream``."""

    def __init__(self, stream: TextIO, *, title: str) -> None:
        self._stream = stream
        self._title = title
        self._terminal = stream.isatty()
        self._last = ""

    def show(self, share: float) -> None:
        """Share done (0 to 1)."""
        if self._terminal:
            filled = int(WIDTH * share)
            self._write(f"\r{self._title}: [{'#' * filled}{'.' * (WIDTH - filled)}] {share:4.0%}", end="")
            return
        text = f"{self._title}: {int(share * PLAIN_STEPS) * 100 // PLAIN_STEPS} %"
        if text != self._last:
            self._last = text
            self._write(text, end="\n")

    def close(self, text: str) -> None:
        """Last line."""
        self._write(f"{chr(13) if self._terminal else ''}{self._title}: {text:<60}".rstrip(), end="\n")

    def _write(self, text: str, *, end: str) -> None:
        self._stream.write(text + end)
        self._stream.flush()
