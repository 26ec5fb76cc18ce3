"""Reading text: the standard library of this Python, and a person's own files and folders.

The order of the documents is a pure function of their names and the seed, never of the file system, so that every rank and every
later attempt reads the same text. What was read and what was left out is counted and can be shown.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import Problem, SpecError

_SKIPPED_FOLDERS = frozenset({
    "__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test", "ensurepip",
    ".git", ".hg", ".venv", "node_modules",
})  # fmt: skip
_GENERATED_STDLIB = (
    "pydoc_data/topics.py",
    "encodings/cp",
    "encodings/iso",
    "encodings/mac_",
    "encodings/koi8",
    "_sysconfigdata",
)
_BINARY_SUFFIXES = frozenset({
    ".7z", ".a", ".bin", ".bz2", ".dll", ".exe", ".gif", ".gz", ".ico", ".jpg", ".jpeg", ".npy", ".npz", ".o", ".pdf", ".pkl",
    ".png", ".pt", ".pyc", ".safetensors", ".so", ".sqlite", ".tar", ".whl", ".xz", ".zip", ".zst",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDocument:
    """One file as found: ``name`` is relative to the corpus root, with forward slashes."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The files that a corpus is made of. ``left_out`` counts files by the reason why they were not read."""

    root: str
    documents: tuple[RawDocument, ...]
    left_out: dict[str, int]

    @property
    def num_bytes(self) -> int:
        """Bytes read."""
        return sum(len(document.content) for document in self.documents)

    def digest(self) -> str:
        """SHA-256 over names and contents, in order."""
        sha = hashlib.sha256()
        for document in self.documents:
            sha.update(f"{document.name}\0{len(document.content)}\0".encode())
            sha.update(document.content)
        return sha.hexdigest()


def hash_fraction(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments (first 53 bits of a SHA-256)."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{name}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def read_stdlib(*, seed: int = 0, max_bytes: int | None = None, root: Path | None = None) -> Reading:
    """The ``.py`` files of this interpreter's standard library, without tests, installed packages and generated tables."""
    base = root or Path(sysconfig.get_paths()["stdlib"])
    if not base.is_dir():
        raise SpecError([Problem(path="data.kind", message=f"this Python has no standard library at {base}", nearest="text")])
    left_out: dict[str, int] = {}
    files = []
    for path in _walk(base, left_out):
        name = path.relative_to(base).as_posix()
        if path.suffix != ".py":
            _count(left_out, "not Python source")
        elif name.startswith(_GENERATED_STDLIB):
            _count(left_out, "generated table")
        else:
            files.append((name, path))
    return _read(str(base), files, left_out, seed=seed, max_bytes=max_bytes)


def read_paths(paths: Sequence[str], *, seed: int = 0, max_bytes: int | None = None) -> Reading:
    """A person's files and folders (folders whole, binary file types left out). Raises SpecError for a path that is not there."""
    problems = []
    if not paths:
        problems.append(Problem(path="data.paths", message="no path is given", allowed="one or more files or folders of text"))
    left_out: dict[str, int] = {}
    files: list[tuple[str, Path]] = []
    for index, text in enumerate(paths):
        path = Path(text).expanduser()
        if path.is_dir():
            found = _walk(path, left_out)
            files.extend((f"{path.name}/{file.relative_to(path).as_posix()}", file) for file in found)
        elif path.is_file():
            files.append((path.name, path))
        else:
            nearest = _nearest_existing(path)
            problems.append(Problem(path=f"data.paths[{index}]", message=f"{text} does not exist", nearest=nearest))
    if problems:
        raise SpecError(problems)
    kept = []
    for name, path in files:
        if path.suffix.lower() in _BINARY_SUFFIXES:
            _count(left_out, "binary file type")
        else:
            kept.append((name, path))
    return _read(", ".join(paths), kept, left_out, seed=seed, max_bytes=max_bytes)


def _walk(base: Path, left_out: dict[str, int]) -> Iterator[Path]:
    for entry in sorted(base.iterdir()):
        if entry.is_dir():
            if entry.name in _SKIPPED_FOLDERS or entry.is_symlink() or entry.name.startswith("config-"):
                _count(left_out, "folder of tests, packages or build settings")
            else:
                yield from _walk(entry, left_out)
        elif entry.is_file():
            yield entry


def _read(root: str, files: Iterable[tuple[str, Path]], left_out: dict[str, int], *, seed: int, max_bytes: int | None) -> Reading:
    # A shuffled order, so that max_bytes cuts a fair part of the corpus and not its alphabetical beginning.
    ordered = sorted(files, key=lambda item: (hash_fraction(seed, "order", item[0]), item[0]))
    documents = []
    total = 0
    for name, path in ordered:
        try:
            content = path.read_bytes()
        except (PermissionError, FileNotFoundError):
            _count(left_out, "could not be read")
            continue
        if max_bytes is not None and total + len(content) > max_bytes:
            _count(left_out, "past max_bytes")
            continue
        total += len(content)
        documents.append(RawDocument(name=name, content=content))
    return Reading(root=root, documents=tuple(documents), left_out=left_out)


def _nearest_existing(path: Path) -> str | None:
    for parent in path.parents:
        if parent.is_dir():
            return str(parent)
    return None


def _count(counts: dict[str, int], reason: str) -> None:
    counts[reason] = counts.get(reason, 0) + 1
