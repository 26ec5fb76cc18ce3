"""House rules about the tree around the source: tracked files, declared dependencies, lock files, the wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.architecture.source_tree import PACKAGES, Violation, imports, modules, tracked_files

IMPORT_NAMES = {"pyyaml": "yaml", "nvidia-ml-py": "pynvml", "prometheus-client": "prometheus_client"}
EXTRAS_WITHOUT_IMPORT = ("ray", "kubernetes")
"""Extras whose adapters are not part of this version; the names are reserved so that installs keep working."""
TRANSITIVE = {"starlette": "fastapi", "anyio": "fastapi"}
"""Import names that come with a declared distribution and are part of its public face."""

USED_THROUGH = {"highspy": "pulp"}
"""Import names that a declared distribution imports by itself once it is asked for them, without depending on them."""

# Written in pieces, so that this file does not hold what it forbids.
_HOSTS = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("download.pytorch", "org"),
    ("pypi.nvidia", "com"),
    ("crates", "io"),
    ("registry.npmjs", "org"),
    ("proxy.golang", "org"),
    ("repo.maven.apache", "org"),
    ("deb.debian", "org"),
    ("conda.anaconda", "org"),
)
FORBIDDEN = re.compile(
    "|".join(
        [
            *(r"(?<![\w-])" + re.escape(name) + r"\." + end + r"\b" for name, end in _HOSTS),
            r"(?<![\w.-])/wo" + r"rk/(?:main|shared|\.)",
            r"\bshared/(?:des" + r"ign|refe" + r"rence|hooks|traces)\b",
            r"\bdesign refe" + r"rence\b",
            r"--(?:extra-)?index" + r"-url[= ]\S*//",
            r"--find" + r"-links[= ]\S*//",
        ]
    )
)
TEXT_LIMIT_BYTES = 5_000_000


def no_forbidden_words(root: Path) -> list[Violation]:
    """No tracked file names a package index host, or a path of the place where it was written."""
    broken = []
    for path in tracked_files(root):
        raw = path.read_bytes()
        if b"\0" in raw[:4096] or len(raw) > TEXT_LIMIT_BYTES:
            continue
        for number, line in enumerate(raw.decode("utf-8", errors="replace").splitlines(), start=1):
            for match in FORBIDDEN.finditer(line):
                broken.append(Violation(path=str(path.relative_to(root)), line=number, message=f"names {match[0]!r}"))
    return broken


def no_debris(root: Path) -> list[Violation]:
    """No outputs, editor files, archives or committed environments."""
    debris = re.compile(r"(?:\.(?:swp|orig|rej|pyc|whl|egg-info|pt|ckpt|db|sqlite3?|log)|~|\.DS_Store)$")
    allowed = {"docs/long-run.log"}
    names = [path.relative_to(root).as_posix() for path in tracked_files(root)]
    return [
        Violation(path=name, line=1, message="an output or editor file")
        for name in names
        if debris.search(name) and name not in allowed
    ]


def project(root: Path) -> dict[str, Any]:
    """The `[project]` table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return table


def distribution(requirement: str) -> str:
    """The normalised name of the distribution that a requirement line asks for."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""


def import_name(distribution_name: str) -> str:
    """What a declared distribution is imported as."""
    return IMPORT_NAMES.get(distribution_name, distribution_name.replace("-", "_"))


def declared_are_imported(root: Path) -> list[Violation]:
    """Every declared dependency is imported somewhere, and every third-party import is declared."""
    table = project(root)
    extras = {
        import_name(distribution(line)): extra
        for extra, lines in table.get("optional-dependencies", {}).items()
        for line in lines
    }
    base = {import_name(distribution(line)) for line in table["dependencies"]}
    imported: set[str] = set()
    broken = []
    for module in modules(root):
        for found in imports(module):
            if found.standard or found.top in PACKAGES:
                continue
            name = TRANSITIVE.get(found.top, found.top)
            imported.add(name)
            if name not in base and name not in extras:
                broken.append(module.violation(found.node, f"{found.top} is not declared in pyproject.toml"))
    reserved = {name for name, extra in extras.items() if extra in EXTRAS_WITHOUT_IMPORT}
    carried = {name for name, carrier in USED_THROUGH.items() if carrier in imported}
    unused = (base | set(extras)) - imported - reserved - carried
    return broken + [
        Violation(path="pyproject.toml", line=1, message=f"{name} is declared and never imported") for name in sorted(unused)
    ]


def inputs_match_declared(root: Path) -> list[Violation]:
    """requirements/base.in and runtime.in name what pyproject.toml declares, and nothing else."""
    table = project(root)
    wanted = {
        "base.in": {distribution(line) for line in table["dependencies"]},
        "runtime.in": {distribution(line) for line in table["optional-dependencies"]["runtime"]},
    }
    broken = []
    for name, declared in wanted.items():
        listed = set(requirement_names(root / "requirements" / name))
        for differing in sorted(declared ^ listed):
            where = "only in pyproject.toml" if differing in declared else "not in pyproject.toml"
            broken.append(Violation(path=f"requirements/{name}", line=1, message=f"{differing}: {where}"))
    return broken


def requirement_names(path: Path) -> list[str]:
    """The distributions that an .in file names itself."""
    lines = [line.split("#", 1)[0].strip() for line in path.read_text().splitlines()]
    return [distribution(line) for line in lines if line and not line.startswith("-")]


def locks_are_whole(root: Path) -> list[Violation]:
    """Each lock file pins with `==`, has a hash for each pin, and holds every name of its .in file."""
    broken = []
    for path in sorted((root / "requirements" / "lock").glob("*.txt")):
        name = f"requirements/lock/{path.name}"
        blocks = re.split(r"\n(?=\S)", path.read_text())
        pinned = {distribution(block) for block in blocks if not block.startswith("#")}
        for block in blocks:
            if block.startswith("#"):
                continue
            if not re.match(r"[A-Za-z0-9._-]+==\S+", block) or "--hash=sha256:" not in block:
                broken.append(Violation(path=name, line=1, message=f"not pinned with a hash: {block[:60]!r}"))
        kind = path.name.split("-py", 1)[0]
        wanted = set(requirement_names(root / "requirements" / f"{kind.removesuffix('-cpu')}.in"))
        wanted -= {"torch", "torchvision"} if kind.endswith("-cpu") else set()
        for missing in sorted(wanted - pinned):
            broken.append(Violation(path=name, line=1, message=f"{missing} is missing; run make lock"))
    return broken


def build_wheel(root: Path, out: Path) -> Path:
    """Build the wheel of a tree into `out` with the installed backend; returns its path."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


def wheel_contents(root: Path, wheel: Path) -> list[Violation]:
    """The wheel holds every tracked file of the four packages, its own metadata, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.endswith("/")}
    relative = {path.relative_to(root).as_posix() for path in tracked_files(root)}
    wanted = {name for name in relative if name.split("/", 1)[0] in PACKAGES}
    code = {name for name in packed if not re.match(r"trimtab-[^/]+\.dist-info/", name)}
    broken = [Violation(path=name, line=1, message="in the wheel, not in the packages") for name in code - wanted]
    broken += [Violation(path=name, line=1, message="missing from the wheel") for name in wanted - code]
    for package in PACKAGES:
        if f"{package}/py.typed" not in packed:
            broken.append(Violation(path=package, line=1, message="no py.typed in the wheel"))
    return sorted(broken, key=str)


TREE_RULES: tuple[Callable[[Path], list[Violation]], ...] = (
    no_forbidden_words,
    no_debris,
    declared_are_imported,
    inputs_match_declared,
    locks_are_whole,
)
