"""How far a run is: one line that is drawn again on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Protocol

from scheduler.entrypoints.cli.console import Console
from scheduler.entrypoints.cli.jobtext import against_prediction
from scheduler.entrypoints.cli.words import count_text, percent_text, seconds_text
from trimtab.orders import Progress
from trimtab.views import JobView

_BAR_WIDTH = 24
_PLAIN_EVERY_S = 10.0
_PLAIN_EVERY_FRAC = 0.1
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class ProgressDisplay(Protocol):
    """Shows a job's progress on stderr; other notes go through it, so that they do not collide with the line."""

    def show(self, view: JobView) -> None:
        """The newest view."""
        ...

    def note(self, text: str) -> None:
        """A line that stays."""
        ...

    def close(self) -> None:
        """Nothing more will be shown."""
        ...


def open_display(console: Console) -> ProgressDisplay:
    """The display that fits stderr."""
    return TerminalDisplay(console) if console.err_is_terminal else PlainDisplay(console)


class TerminalDisplay:
    """One line at the bottom, drawn again."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._line = ""
        self._turn = 0

    def show(self, view: JobView) -> None:
        """See ProgressDisplay."""
        self._turn += 1
        columns = shutil.get_terminal_size().columns - 1
        self._line = fitted(terminal_parts(view, spinner=_SPINNER[self._turn % len(_SPINNER)]), columns)
        self._draw()

    def note(self, text: str) -> None:
        """See ProgressDisplay."""
        self._wipe()
        self._console.note(text)
        self._draw()

    def close(self) -> None:
        """See ProgressDisplay."""
        self._wipe()
        self._line = ""

    def _draw(self) -> None:
        sys.stderr.write(f"\r\x1b[K{self._console.err_style(self._line, 'cyan')}")
        sys.stderr.flush()

    def _wipe(self) -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


class PlainDisplay:
    """A line every ten seconds or tenth of the way, whichever comes first, and at the last step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown_s = float("-inf")
        self._step = -1
        self._frac = -1.0

    def show(self, view: JobView) -> None:
        """See ProgressDisplay."""
        progress = view.progress
        if progress is None or progress.num_steps <= 0 or progress.step == self._step:
            return
        frac, now_s = progress.step / progress.num_steps, time.monotonic()
        due = now_s - self._shown_s >= _PLAIN_EVERY_S or frac - self._frac >= _PLAIN_EVERY_FRAC
        if due or progress.step == progress.num_steps:
            self._shown_s, self._step, self._frac = now_s, progress.step, frac
            self._console.note(plain_line(view))

    def note(self, text: str) -> None:
        """See ProgressDisplay."""
        self._console.note(text)

    def close(self) -> None:
        """See ProgressDisplay."""


def plain_line(view: JobView) -> str:
    """``step 20/400 (5 %)  loss 6.21  4.60k tokens/s  431 ms a step (predicted 429 ms, +0.5 %)  left 2m 44s``."""
    progress = view.progress
    assert progress is not None, "shown only with progress"
    share = percent_text(progress.step / progress.num_steps) if progress.num_steps else ""
    return "  ".join([f"{_phase(progress)}step {progress.step:,}/{progress.num_steps:,} ({share})", *_figures(view, progress)])


def terminal_parts(view: JobView, *, spinner: str) -> list[str]:
    """The pieces of the terminal's line, the most important first."""
    progress = view.progress
    if progress is None or progress.num_steps <= 0:
        return [f"{spinner} {view.state}", view.detail]
    frac = min(1.0, progress.step / progress.num_steps)
    filled = round(frac * _BAR_WIDTH)
    bar = "━" * filled + "╌" * (_BAR_WIDTH - filled)
    return [
        f"{_phase(progress)}{progress.step:,}/{progress.num_steps:,} {bar} {percent_text(frac):>5}",
        *_figures(view, progress),
    ]


def _figures(view: JobView, progress: Progress) -> list[str]:
    parts = [f"loss {progress.loss:.3f}"] if progress.step > 0 else []
    if progress.tokens_per_s > 0:
        parts.append(f"{count_text(progress.tokens_per_s)} tokens/s")
    predicted_s = view.predicted_step_s.value if view.predicted_step_s is not None else 0.0
    if progress.step_s > 0:
        against = f", {against_prediction(progress.step_s, predicted_s)}" if predicted_s > 0 else ""
        predicted = f" (predicted {seconds_text(predicted_s)}{against})" if predicted_s > 0 else ""
        parts.append(f"{seconds_text(progress.step_s)} a step{predicted}")
    if view.eta_s is not None:
        parts.append(f"left {seconds_text(view.eta_s)}")
    return parts


def fitted(parts: list[str], columns: int) -> str:
    """As many whole pieces as fit, two spaces apart; the first is cut if even it does not."""
    line = parts[0][:columns]
    for part in parts[1:]:
        if part and len(line) + 2 + len(part) <= columns:
            line += "  " + part
    return line


def _phase(progress: Progress) -> str:
    return "" if progress.phase == "train" else f"{progress.phase}: "
