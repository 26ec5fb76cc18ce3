"""The house rules of the source as functions: each takes the root of a tree and returns what breaks the rule there.

Every rule is run on this repository and, in `test_rules_catch.py`, on a small tree that breaks it.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.architecture.source_tree import (
    PACKAGES,
    Module,
    Violation,
    functions,
    imports,
    modules,
    within,
)

FILE_LINES, FILE_LINES_HARD = 400, 600
FUNCTION_LINES, FUNCTION_LINES_HARD = 50, 70
OVER_SOFT_FRAC = 0.08
"""Share of files, and of functions, that may stand between the soft limit and the hard one."""
NUM_POSITIONAL = 3

PURE = ("planner", "scheduler.core")
CLOCKS_AND_CHANCE = ("time", "random", "secrets", "socket", "subprocess", "multiprocessing", "asyncio")
IMPURE_CALLS = re.compile(
    r"(?:^|\.)(?:datetime\.(?:now|utcnow|today)|date\.today|os\.(?:environ|getenv|urandom)|uuid[14]"
    r"|(?:np|numpy)\.random\.(?!default_rng$|Generator$|SeedSequence$)\w+)$"
)
UNSEEDED_CALL = re.compile(r"(?:^|\.)(?:np|numpy)\.random\.default_rng$")
KERNEL_WITH_IO = ("trimtab.client",)
STANDARD_LIBRARY_ONLY = ("trimtab", "workers.agent")
LAZY_IMPORTS_ALLOWED = ("scheduler.entrypoints", "scheduler.bootstrap")
"""The entrypoints and the composition root that they call: a command loads only what it uses."""
FOREIGN_SIGNATURES = ("forward", "backward", "setup_context", "__torch_dispatch__", "__torch_function__")
ENUM_BASES = ("Enum", "StrEnum", "IntEnum", "Flag", "IntFlag")
BANNED_NOUNS = ("Task", "Resource", "Instance", "Group", "Allocation")
FIELD_TERMS = ("ProcessGroup", "PlacementGroup", "CustomResource")

HOMES: dict[str, tuple[str, ...]] = {
    "anyio": ("scheduler.entrypoints",),
    "apsw": ("scheduler.adapters",),
    "fastapi": ("scheduler.entrypoints",),
    "highspy": ("planner.solve",),
    "kubernetes": ("scheduler.adapters",),
    "matplotlib": ("scheduler.entrypoints",),
    "numpy": ("planner", "workers"),
    "prometheus_client": ("scheduler.adapters",),
    "psutil": ("scheduler.adapters", "workers"),
    "pulp": ("planner.formulation", "planner.solve"),
    "pydantic": ("scheduler.entrypoints",),
    "pynvml": ("scheduler.adapters", "workers"),
    "ray": ("scheduler.adapters",),
    "redis": ("scheduler.adapters",),
    "safetensors": ("workers",),
    "starlette": ("scheduler.entrypoints",),
    "tokenizers": ("workers",),
    "torch": ("workers",),
    "typer": ("scheduler.entrypoints",),
    "uvicorn": ("scheduler.entrypoints",),
    "yaml": ("scheduler.entrypoints", "scheduler.adapters.documents"),
}
"""The one home of each third-party import name."""


def hard_size_limits(root: Path) -> list[Violation]:
    """No file over 600 lines and no function over 70 (its docstring not counted)."""
    broken = []
    for module in modules(root, (*PACKAGES, "tests", "tools", "benchmarks")):
        num_lines = len(module.text.splitlines())
        if num_lines > FILE_LINES_HARD:
            broken.append(module.violation(1, f"{num_lines} lines, at most {FILE_LINES_HARD}"))
        for function, _ in functions(module.tree):
            length = function_length(function)
            if length > FUNCTION_LINES_HARD:
                broken.append(module.violation(function, f"{function.name} has {length} lines, at most {FUNCTION_LINES_HARD}"))
    return broken


def soft_size_limits(root: Path) -> list[Violation]:
    """Only a few files may pass 400 lines, and only a few functions 50; all are named when there are too many."""
    long_files, long_functions, num_functions = [], [], 0
    files = modules(root)
    for module in files:
        num_lines = len(module.text.splitlines())
        if num_lines > FILE_LINES:
            long_files.append(module.violation(1, f"{num_lines} lines, about {FILE_LINES} wanted"))
        for function, _ in functions(module.tree):
            num_functions += 1
            length = function_length(function)
            if length > FUNCTION_LINES:
                long_functions.append(
                    module.violation(function, f"{function.name} has {length} lines, about {FUNCTION_LINES} wanted")
                )
    broken = long_files if len(long_files) > max(1, OVER_SOFT_FRAC * len(files)) else []
    return broken + (long_functions if len(long_functions) > max(1, OVER_SOFT_FRAC * num_functions) else [])


def function_length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


def few_positional_parameters(root: Path) -> list[Violation]:
    """At most three positional parameters in what others call; the rest by keyword.

    Commands, routes and torch's own hooks have the shape that their caller wants; a private helper, which is read
    beside its one caller, is held by the limit on all parameters alone.
    """
    broken = []
    for module in modules(root):
        for function, owner in functions(module.tree):
            if function.name in FOREIGN_SIGNATURES or is_entry(module, function) or is_private(function.name):
                continue
            names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
            if owner is not None and names[:1] in (["self"], ["cls"]):
                names = names[1:]
            if len(names) > NUM_POSITIONAL:
                broken.append(
                    module.violation(
                        function, f"{function.name} takes {len(names)} positional parameters, at most {NUM_POSITIONAL}"
                    )
                )
    return broken


def is_private(name: str) -> bool:
    """Whether a function is a helper of its module, or a special method other than the constructor."""
    return name.startswith("_") and name != "__init__"


def is_entry(module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function is a command or a route: decorated, in the entrypoints."""
    return within(module.name, ("scheduler.entrypoints",)) and bool(function.decorator_list)


def init_reexports_only(root: Path) -> list[Violation]:
    """`__init__.py` holds a docstring, imports, `__all__` and a version, nothing else."""
    broken = []
    for module in modules(root):
        if module.path.name != "__init__.py":
            continue
        for statement in module.tree.body:
            if not is_reexport(statement):
                broken.append(module.violation(statement, "only imports and __all__ belong into __init__.py"))
    return broken


def is_reexport(statement: ast.stmt) -> bool:
    """Whether a statement may stand in an `__init__.py`."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return True
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return all(isinstance(target, ast.Name) and target.id in ("__all__", "__version__") for target in targets)
    return False


def enum_names_once(root: Path) -> list[Violation]:
    """The name of an enum exists once in the product."""
    places: dict[str, list[Violation]] = defaultdict(list)
    for module in modules(root):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and any(base_name(base) in ENUM_BASES for base in node.bases):
                places[node.name].append(module.violation(node, f"enum {node.name} exists more than once"))
    return [violation for found in places.values() if len(found) > 1 for violation in found]


def base_name(base: ast.expr) -> str:
    """The last part of a base class expression."""
    return ast.unparse(base).rsplit(".", 1)[-1]


def one_vocabulary(root: Path) -> list[Violation]:
    """None of our own types is named task, resource, instance, group or allocation.

    A subclass of a third party's type may keep that type's word.
    """
    broken = []
    for module in modules(root):
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ClassDef):
                continue
            name = node.name
            for term in FIELD_TERMS:
                name = name.replace(term, "")
            bases = " ".join(base_name(base) for base in node.bases)
            words = [word for word in re.findall(r"[A-Z][a-z0-9]*", name) if word not in bases]
            broken += [
                module.violation(node, f"class {node.name}: the word {word} is not one of ours")
                for word in words
                if word in BANNED_NOUNS
            ]
    return broken


def no_first_party_import_in_functions(root: Path) -> list[Violation]:
    """First-party imports stand at the top, but for heavy ones in the entrypoints and their composition root."""
    broken = []
    for module in modules(root):
        if within(module.name, LAZY_IMPORTS_ALLOWED):
            continue
        for found in imports(module):
            if found.in_function and found.top in PACKAGES:
                broken.append(module.violation(found.node, f"{found.target} is imported inside a function"))
    return broken


def documented(root: Path) -> list[Violation]:
    """Every module, public class, public function and port method says what it is."""
    broken = []
    for module in modules(root):
        if module.text.strip() and ast.get_docstring(module.tree) is None:
            broken.append(module.violation(1, "module without a docstring"))
        for node in public_definitions(module.tree):
            if ast.get_docstring(node) is None:
                broken.append(module.violation(node, f"{node.name} without a docstring"))
    return broken


def public_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Public classes and functions of a module, and the public methods of its Protocols."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef) and any(base_name(base) == "Protocol" for base in node.bases):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.name[0] != "_":
                        yield method


def typed(root: Path) -> list[Violation]:
    """Every signature is typed in full."""
    broken = []
    for module in modules(root):
        for function, owner in functions(module.tree):
            arguments = function.args
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            named += [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
            if owner is not None and named and named[0].arg in ("self", "cls", "mcs"):
                named = named[1:]
            untyped = [argument.arg for argument in named if argument.annotation is None]
            if function.returns is None and function.name != "__init__":
                untyped.append("the return value")
            if untyped:
                broken.append(module.violation(function, f"{function.name}: no type for {', '.join(untyped)}"))
    return broken


def pure_packages(root: Path) -> list[Violation]:
    """Neither clock nor chance nor environment nor network in the planner and the core."""
    broken = []
    for module in modules(root):
        if not within(module.name, PURE):
            continue
        for found in imports(module):
            if within(found.target, CLOCKS_AND_CHANCE) and not found.type_checking:
                broken.append(module.violation(found.node, f"{found.target} in a pure package"))
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute | ast.Name) and IMPURE_CALLS.search(ast.unparse(node)):
                broken.append(module.violation(node, f"{ast.unparse(node)} in a pure package"))
            if isinstance(node, ast.Call) and not node.args and UNSEEDED_CALL.search(ast.unparse(node.func)):
                broken.append(module.violation(node, f"{ast.unparse(node)} without a seed in a pure package"))
    return broken


def standard_library_only(root: Path) -> list[Violation]:
    """The kernel and the injected agent import the standard library and the kernel, nothing else."""
    broken = []
    for module in modules(root):
        if not within(module.name, STANDARD_LIBRARY_ONLY) or within(module.name, KERNEL_WITH_IO):
            continue
        allowed = ("trimtab", "workers.agent") if within(module.name, ("workers",)) else ("trimtab",)
        for found in imports(module):
            if not (found.standard or within(found.target, allowed)):
                broken.append(module.violation(found.node, f"{found.target}: only the standard library here"))
    return broken


def third_parties_at_home(root: Path) -> list[Violation]:
    """Each third party is imported only in its one home."""
    broken = []
    for module in modules(root):
        for found in imports(module):
            if found.standard or found.top in PACKAGES or found.type_checking:
                continue
            if found.top not in HOMES:
                broken.append(module.violation(found.node, f"{found.top} has no home in HOMES"))
            elif not within(module.name, HOMES[found.top]):
                homes = ", ".join(HOMES[found.top]) or "nowhere"
                broken.append(module.violation(found.node, f"{found.top} is imported here; its home is {homes}"))
    return broken


def no_relative_paths(root: Path) -> list[Violation]:
    """Nobody edits `sys.path` to find a package."""
    broken = []
    for module in modules(root):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and re.match(r"sys\.path\.(insert|append|extend)$", ast.unparse(node.func)):
                broken.append(module.violation(node, "sys.path is edited"))
    return broken


SOURCE_RULES: tuple[Callable[[Path], list[Violation]], ...] = (
    hard_size_limits,
    soft_size_limits,
    few_positional_parameters,
    init_reexports_only,
    enum_names_once,
    one_vocabulary,
    no_first_party_import_in_functions,
    documented,
    typed,
    pure_packages,
    standard_library_only,
    third_parties_at_home,
    no_relative_paths,
)
