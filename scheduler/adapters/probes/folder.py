"""Probe reports as one JSON file each, named by fingerprint."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from trimtab.errors import Problem, SpecError
from trimtab.files import write_atomically
from trimtab.inventory import ProbeReport
from trimtab.wire import dumps, loads

_LOG = logging.getLogger("trimtab.probes")
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class FolderProbes:
    """ProbeShelf in a folder. Nothing is held in memory: a report that another process writes is seen at the next call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def reports(self) -> Sequence[ProbeReport]:
        """See the port. A file that cannot be read as a report is named in the log and left out."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(loads(ProbeReport, path.read_bytes()))
            except (OSError, ValueError) as error:
                _LOG.warning("probe report %s is not used: %s", path, error)
        return found

    def put(self, report: ProbeReport) -> None:
        """See the port. Raises SpecError for a fingerprint that cannot be a file name."""
        if not _SAFE.fullmatch(report.fingerprint):
            problem = Problem(path="fingerprint", message=f"found {report.fingerprint!r}", allowed="letters, digits, - and _")
            raise SpecError([problem])
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self._folder / f"{report.fingerprint}.json", dumps(report).encode())
