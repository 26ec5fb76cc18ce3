"""Reading a source tree for the architecture rules: files, parsed modules, imports, violations."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PACKAGES = ("trimtab", "planner", "scheduler", "workers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One place that breaks one rule."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One parsed Python file of a tree."""

    path: Path
    """Relative to the root."""
    name: str
    """Dotted name; that of the package for `__init__.py`."""
    text: str
    tree: ast.Module

    def violation(self, node: ast.AST | int, message: str) -> Violation:
        """A violation at a node, or at a line number."""
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return Violation(path=str(self.path), line=line, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported module name, where it stands."""

    target: str
    node: ast.Import | ast.ImportFrom
    in_function: bool
    type_checking: bool

    @property
    def top(self) -> str:
        """The first part of the name: the distribution's import name."""
        return self.target.split(".", 1)[0]

    @property
    def standard(self) -> bool:
        """Whether this is the standard library."""
        return self.top in sys.stdlib_module_names


def modules(root: Path, packages: tuple[str, ...] = PACKAGES) -> tuple[Module, ...]:
    """Every Python file below the named folders of `root`, parsed, in a stable order."""
    found = []
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            if "__pycache__" not in path.parts:
                found.append(_parsed(root, path, path.stat().st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=4096)
def _parsed(root: Path, path: Path, _mtime_ns: int) -> Module:
    relative = path.relative_to(root)
    parts = relative.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    return Module(path=relative, name=name, text=text, tree=ast.parse(text, filename=str(path)))


def imports(module: Module) -> Iterator[Import]:
    """Every import of a module, with whether it stands in a function or serves type checking only."""
    yield from _imports_below(module.tree, in_function=False, type_checking=False)


def _imports_below(node: ast.AST, *, in_function: bool, type_checking: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(target=alias.name, node=child, in_function=in_function, type_checking=type_checking)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield Import(target=child.module, node=child, in_function=in_function, type_checking=type_checking)
        else:
            yield from _imports_below(
                child,
                in_function=in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda),
                type_checking=type_checking or _is_type_checking(child),
            )


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def functions(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, ast.ClassDef | None]]:
    """Every function of a tree with the class that it is a method of, nested ones included."""
    yield from _functions_below(tree, None)


def _functions_below(
    node: ast.AST, owner: ast.ClassDef | None
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, ast.ClassDef | None]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child, owner
            yield from _functions_below(child, None)
        else:
            yield from _functions_below(child, child if isinstance(child, ast.ClassDef) else owner)


def tracked_files(root: Path) -> tuple[Path, ...]:
    """The files that git tracks or would track (ignored ones left out), or all files where there is no git."""
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    if (root / ".git").exists():
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        names = [root / name for name in done.stdout.split("\0") if name]
        return tuple(sorted(path for path in names if path.is_file()))
    return tuple(sorted(path for path in root.rglob("*") if path.is_file()))


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the prefixes or lies below one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
