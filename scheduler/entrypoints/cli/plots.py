"""``--plot``: where a plot goes, and what it shows."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import scheduler.bootstrap as bootstrap
from scheduler.entrypoints.cli.common import Format, Session, usage
from scheduler.entrypoints.cli.plottext import plot_lines
from scheduler.service.pareto import Picture, picture
from trimtab.errors import InstallationError
from trimtab.inventory import Inventory
from trimtab.jobspec import JobSpec
from trimtab.plan import Candidate

_TERMINAL = "-"
_ENDINGS = (".svg", ".png")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotJob:
    """What is drawn: every candidate of a job, and the marked one with the word for it."""

    spec: JobSpec
    inventory: Inventory
    candidates: Sequence[Candidate]
    marked: Candidate | None
    mark: str


def check_plot(target: str | None, form: Format) -> None:
    """Refuse a plot that cannot be drawn before anything is planned. Raises CommandError, InstallationError."""
    if target is None:
        return
    if target == _TERMINAL:
        if not form.for_people:
            raise usage(f"--plot - draws on stdout, where -o {form} prints; name a file instead")
        return
    path = Path(target)
    if path.suffix.lower() not in _ENDINGS:
        raise usage(f"--plot {target}: the ending says how it is drawn; allowed: FILE.svg, FILE.png, or - for the terminal")
    if not path.resolve().parent.is_dir():
        raise usage(f"--plot {target}: there is no folder {path.resolve().parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise InstallationError("matplotlib is not installed: pip install matplotlib, or draw in the terminal with --plot -")


def show_plot(session: Session, target: str, job: PlotJob) -> None:
    """Draw into the file or on stdout."""
    shown = _picture(job)
    if not shown.points:
        session.note("nothing is drawn: no candidate's time is predicted")
        return
    console = session.console
    if target == _TERMINAL:
        console.lines(["", *plot_lines(shown, width=console.width, style=console.style)])
        return
    from scheduler.entrypoints.cli.plotting import write_plot

    write_plot(shown, Path(target))
    session.note(f"drawn: {target} ({len(shown.points):,} candidates, {len(shown.front)} on the front)")


def _picture(job: PlotJob) -> Picture:
    return picture(
        job.candidates,
        job.inventory,
        title=f"{job.spec.name}: time against cost of {len(job.candidates):,} candidates",
        is_feasible=lambda candidate: bootstrap.is_within_limits(job.spec, candidate),
        marked=job.marked,
        mark=job.mark,
    )
