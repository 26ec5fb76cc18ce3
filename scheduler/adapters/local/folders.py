"""Where the things of a job lie below the state folder, and back from a folder to its attempt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from trimtab.attempt_files import AGENT_LOCK
from trimtab.ids import AttemptRef, JobId, UnitId, unit_id

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_ATTEMPT = re.compile(r"(?:u(?P<unit>\d+)-)?a(?P<number>\d+)")


class JobFolders:
    """Paths below ``jobs/``: ``<job>/checkpoints``, and ``<job>/a<attempt>`` (``u<k>-a<attempt>`` for units after the first)."""

    def __init__(self, jobs: Path) -> None:
        self.root = jobs

    def job(self, job_id: JobId) -> Path:
        """Folder of a job. Raises ValueError for an id that is no plain name: it must not lead out of the state folder."""
        if not _SAFE.fullmatch(job_id):
            raise ValueError(f"job id {job_id!r} is no plain name")
        return self.root / job_id

    def checkpoints(self, job_id: JobId) -> Path:
        """Folder of the checkpoints of all attempts of a job."""
        return self.job(job_id) / "checkpoints"

    def attempt(self, attempt: AttemptRef) -> Path:
        """Folder of one attempt."""
        unit = str(attempt.unit_id).rpartition(".u")[2]
        if not unit.isdigit():
            raise ValueError(f"unit id {attempt.unit_id!r} has no number")
        name = f"a{attempt.number}" if int(unit) == 0 else f"u{int(unit)}-a{attempt.number}"
        return self.job(attempt.job_id) / name

    def started(self) -> Iterator[AttemptRef]:
        """Every attempt that was ordered here and is not forgotten: its lock file is made first and removed last."""
        for lock in sorted(self.root.glob(f"*/*a*/{AGENT_LOCK}")):
            attempt = self.attempt_of(lock.parent)
            if attempt is not None:
                yield attempt

    def attempt_of(self, folder: Path) -> AttemptRef | None:
        """The attempt that a folder belongs to; None where the names are not ours."""
        match = _ATTEMPT.fullmatch(folder.name)
        if match is None or not _SAFE.fullmatch(folder.parent.name):
            return None
        unit: UnitId = unit_id(JobId(folder.parent.name), int(match["unit"] or 0))
        return AttemptRef(unit_id=unit, number=int(match["number"]))
