"""Makes the agent's archive: one file that any Python from 3.11 runs, with nothing installed.

The workers package is read as files and never imported: the scheduler only launches it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import trimtab
from trimtab.errors import ExecutorError, InstallationError
from trimtab.files import write_atomically

_SHEBANG = b"#!/usr/bin/env python3\n"
_MAIN = '''"""Starts the agent."""
import sys

if sys.version_info < (3, 11):
    sys.exit("the agent needs Python 3.11 or newer, found " + sys.version.split()[0] + " at " + sys.executable)
from workers.agent.main import main

sys.exit(main(sys.argv[1:]))
'''
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold: the same sources give the same bytes on every day


def sources() -> Mapping[str, bytes]:
    """The archive's files by name: the kernel and the agent. Raises InstallationError where the agent is not installed."""
    spec = importlib.util.find_spec("workers")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    agent = next((Path(place) / "agent" for place in places if (Path(place) / "agent" / "main.py").is_file()), None)
    if agent is None:
        raise InstallationError("the package workers.agent is not installed beside the scheduler")
    files = {"__main__.py": _MAIN.encode()}
    files["workers/__init__.py"] = (agent.parent / "__init__.py").read_bytes()
    for package in (agent, Path(trimtab.__file__).parent):
        prefix = "workers/agent" if package is agent else "trimtab"
        for path in sorted(package.rglob("*.py")):
            files[f"{prefix}/{path.relative_to(package).as_posix()}"] = path.read_bytes()
    return files


def build(files: Mapping[str, bytes]) -> bytes:
    """The archive. Equal files give equal bytes: sorted, one date, one mode, not compressed (its output differs by version)."""
    buffer = io.BytesIO()
    buffer.write(_SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name, _DATE)
            info.external_attr = 0o644 << 16
            info.create_system = 3  # Unix, also where this runs elsewhere
            archive.writestr(info, data)
    return buffer.getvalue()


def install(folder: Path) -> Path:
    """Put the archive at ``<folder>/<sha256>.pyz`` if it is not there yet. Raises ExecutorError where it cannot be written."""
    data = build(sources())
    path = folder / f"{hashlib.sha256(data).hexdigest()}.pyz"
    try:
        if not path.exists() or path.read_bytes() != data:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(path, data)
    except OSError as error:
        raise ExecutorError(f"the agent cannot be put at {path}: {error.strerror}") from error
    return path
