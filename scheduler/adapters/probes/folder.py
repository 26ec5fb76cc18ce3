"""Probe reports as files, one per node fingerprint."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from trimtab import wire
from trimtab.errors import StoreError
from trimtab.inventory import ProbeReport

_LOG = logging.getLogger("trimtab.probes")
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class ProbeFolder:
    """ProbeShelf in a folder of ``<fingerprint>.json``. A file that cannot be read is left out and told in the log, once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, tuple[tuple[int, int], ProbeReport | None]] = {}

    def reports(self) -> Sequence[ProbeReport]:
        """See the port."""
        if not self._folder.is_dir():
            return ()
        found = (self._report(path) for path in sorted(self._folder.glob("*.json")))
        return tuple(report for report in found if report is not None)

    def _report(self, path: Path) -> ProbeReport | None:
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            known = self._read.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            self._read[path] = (stamp, None)
            report = wire.loads(ProbeReport, path.read_bytes())
        except (OSError, ValueError) as error:
            _LOG.warning("probe report %s cannot be read: %s", path, error)
            return None
        self._read[path] = (stamp, report)
        return report

    def put(self, report: ProbeReport) -> None:
        """See the port. Raises StoreError for a fingerprint that is no plain name, or a folder that cannot be written."""
        if not _SAFE.fullmatch(report.fingerprint):
            raise StoreError(f"fingerprint {report.fingerprint!r} is no plain name")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as file:
                file.write(wire.dumps(report).encode())
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(self._folder / f"{report.fingerprint}.json")
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreError(f"the probe report cannot be kept in {self._folder}: {error.strerror}") from error
