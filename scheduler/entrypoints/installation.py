"""Are ``trimtab planner scheduler workers`` ours? Such plain names can be shadowed by another distribution or by a folder."""

from __future__ import annotations

import importlib.util
import json
import os
import site
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from trimtab.errors import InstallationError
from trimtab.files import write_atomically

DISTRIBUTION = "trimtab"
PACKAGES = ("trimtab", "planner", "scheduler", "workers")
_CACHE = "installation.json"


def check_installation(home: Path) -> None:
    """Raises InstallationError where a package of ours would be imported from elsewhere, or another distribution installs one.

    The first is looked at each time (four lookups); the second reads the metadata of all that is installed, so its good outcome
    is kept in the state folder until an installation changes something.
    """
    _check_places()
    key = _state()
    cache = home / _CACHE
    try:
        if json.loads(cache.read_text()) == key:
            return
    except (OSError, ValueError):
        pass
    check_claims(metadata.distributions())
    if home.is_dir():
        write_atomically(cache, json.dumps(key).encode())


def _check_places() -> None:
    root = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        places = [Path(place).resolve().parent for place in (spec.submodule_search_locations or ())] if spec else []
        if not places:
            found = f"it is {spec.origin}" if spec else "it is not there"
            raise InstallationError(f"package {package!r} of {DISTRIBUTION} cannot be imported: {found}")
        if any(place != root for place in places):
            found = ", ".join(str(place / package) for place in places)
            raise InstallationError(
                f"package {package!r} would come from {found}, not from {root}: another distribution or a folder on PYTHONPATH "
                f"has the same name. Remove it, or run {DISTRIBUTION} from an environment of its own"
            )


def check_claims(distributions: Iterable[metadata.Distribution]) -> None:
    """Raises InstallationError where another distribution than ours installs files into one of our packages."""
    ours = 0
    for distribution in distributions:
        name = distribution.metadata["Name"]
        if name == DISTRIBUTION:
            ours += 1
            continue
        claimed = sorted(set(PACKAGES) & top_level(distribution))
        if claimed:
            raise InstallationError(
                f"distribution {name!r} installs {', '.join(repr(c) for c in claimed)} too: it and {DISTRIBUTION} overwrite each "
                f"other's files. Uninstall one, then install {DISTRIBUTION} again"
            )
    if not ours:
        raise InstallationError(f"{DISTRIBUTION} is not installed here (no metadata): pip install {DISTRIBUTION}")


def top_level(distribution: metadata.Distribution) -> frozenset[str]:
    """Names of the packages that a distribution installs, from its list of files."""
    record = distribution.read_text("RECORD") or ""
    return frozenset(package for package in PACKAGES if f"\n{package}/" in record or record.startswith(f"{package}/"))


def _state() -> list[object]:
    """Changes whenever something is installed or removed where this interpreter looks."""
    folders = list(dict.fromkeys([*site.getsitepackages(), site.getusersitepackages()]))
    stamps = []
    for folder in folders:
        try:
            stamps.append([folder, os.stat(folder).st_mtime_ns])
        except OSError:
            continue
    return [sys.version, stamps]
