"""Takes measured runs in for the command line: from a file, or from a job that ended."""

from __future__ import annotations

import difflib
from datetime import datetime
from pathlib import Path

import scheduler.bootstrap as bootstrap
from scheduler.core.measure import Finished, NotMeasured, measurement_of
from scheduler.entrypoints.cli.common import Session
from scheduler.entrypoints.cli.exits import CommandError
from scheduler.entrypoints.documents import load_measured
from trimtab.client import Client
from trimtab.errors import NotFoundError, SpecError
from trimtab.ids import DeviceTypeName, PoolId
from trimtab.lifecycle import ReleaseReason
from trimtab.measurement import MIN_STEPS, Multiplier, StepMeasurement
from trimtab.plan import Candidate
from trimtab.views import JobView

_WHY = {
    NotMeasured.NOT_TRAINED: "it ran a program of yours: step times of our own trainer alone are known",
    NotMeasured.NOT_COMPLETED: "its newest attempt has not run to the end",
    NotMeasured.FEW_STEPS: f"it has fewer than {MIN_STEPS} typical steps",
    NotMeasured.NO_PREDICTION: "its plan is not there any more",
    NotMeasured.UNKNOWN_DEVICES: "its devices are not there any more",
}


def measure_file(session: Session, path: Path, *, drop_first: int, now: datetime) -> frozenset[str]:
    """Keep every run of a file, or none where one of them is wrong. Their sources."""
    file, entries = load_measured(path, drop_first=drop_first, now=now)
    found: list[StepMeasurement] = []
    wrong: dict[str, SpecError] = {}
    for steps in entries:
        try:
            found.append(bootstrap.measure_here(session.settings, steps, now=now))
        except SpecError as error:
            wrong[steps.where] = error
    if wrong:
        raise file.wrong(wrong)
    session.settings.home.create()
    shelf = bootstrap.measured_runs(session.settings)
    known = {entry.source: entry for entry in shelf.kept().measurements}
    for entry in found:
        shelf.put(entry, again=True)
        if entry.source in known and known[entry.source] != entry:
            session.note(f"{entry.source} was known and is replaced")
    return frozenset(entry.source for entry in found)


def measure_job(session: Session, name: str) -> frozenset[str]:
    """Keep what the newest attempt of a job measured. Raises CommandError where it says nothing of its prediction."""
    client = session.connect()
    view = client.job(name)
    candidate = _candidate(client, view)
    found = measurement_of(_finished(view), candidate, _device_type(client, candidate))
    if isinstance(found, NotMeasured):
        raise CommandError(f"{view.name} ({view.id}) measures nothing: {_WHY[found]}")
    shelf = bootstrap.measured_runs(session.settings)
    if all(entry.source != found.source for entry in shelf.kept().measurements):
        shelf.put(found, again=True)
    return frozenset({found.source})


def forget_runs(session: Session, name: str) -> frozenset[str]:
    """Take out what ``name`` stands for; the sources. Raises NotFoundError where nothing has that name."""
    session.settings.home.create()
    shelf = bootstrap.measured_runs(session.settings)
    gone = shelf.forget(name)
    if not gone:
        known = {text for entry in shelf.kept().measurements for text in (entry.source, str(entry.key), str(entry.device_type))}
        close = difflib.get_close_matches(name, sorted(known), n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else "trimtab calibrate --list shows all"
        raise NotFoundError(f"no run, key or device type {name!r} is kept; {hint}")
    return gone


def multipliers_of(session: Session, sources: frozenset[str] | None, *, now: datetime) -> tuple[Multiplier, ...]:
    """The multipliers of everything that is kept, or of the keys of these runs."""
    kept = bootstrap.measured_runs(session.settings).kept().measurements
    keys = {entry.key for entry in kept if sources is None or entry.source in sources}
    return bootstrap.multipliers_here(session.settings, [entry for entry in kept if entry.key in keys], now=now)


def _finished(view: JobView) -> Finished:
    newest = view.attempts[-1] if view.attempts else None
    return Finished(
        source=str(newest.ref) if newest is not None else str(view.id),
        completed=newest is not None and newest.release_reason is ReleaseReason.COMPLETED,
        model=view.name,
        strategy=newest.strategy if newest is not None else "",
        figures=view.summary,
        at=newest.assigned_at if newest is not None else view.submitted_at,
    )


def _candidate(client: Client, view: JobView) -> Candidate | None:
    """What the plan of the newest attempt predicted; a plan made before the submit calls the unit by another name."""
    if view.plan_id is None or not view.attempts:
        return None
    made = client.stored_plan(view.plan_id).assignments
    named = next((a.candidate for a in made if a.unit_id == view.attempts[-1].ref.unit_id), None)
    return named or next((a.candidate for a in made if a.candidate.step_s == view.predicted_step_s), None)


def _device_type(client: Client, candidate: Candidate | None) -> DeviceTypeName | None:
    pool_id: PoolId | None = candidate.pool_id if candidate is not None else None
    return next((pool.device_type for pool in client.inventory().pools if pool.id == pool_id), None)
