"""Each house rule catches what it forbids: it is run on a small tree that breaks it, and on the mended tree."""

from __future__ import annotations

import textwrap
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.architecture import rules, tree_rules
from tests.architecture.source_tree import PACKAGES

HOST = "py" + "pi.org"
HOME = "/wo" + "rk/main/x"
LONG_FUNCTION = '"""M."""\ndef f() -> None:\n    """F."""\n' + "    print()\n" * 71
LONG_ENOUGH_FUNCTION = '"""M."""\ndef f() -> None:\n    """F."""\n' + "    print()\n" * 69
PROJECT = """
[project]
name = "trimtab"
version = "0"
dependencies = [{base}]
[project.optional-dependencies]
runtime = [{runtime}]
"""
PIN = "numpy==2.0 \\\n    --hash=sha256:aa\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One rule, a tree that breaks it and one that keeps it, each as path -> text."""

    rule: rules.Callable[[Path], list[rules.Violation]]
    broken: dict[str, str]
    kept: dict[str, str]
    names: str
    """What the message must name."""


def source(path: str, text: str, **more: str) -> dict[str, str]:
    """A tree of one module with a docstring, and more files."""
    return {path: f'"""M."""\nfrom __future__ import annotations\n{textwrap.dedent(text)}', **more}


CASES = [
    Case(
        rule=rules.hard_size_limits,
        broken={"planner/a.py": LONG_FUNCTION},
        kept={"planner/a.py": LONG_ENOUGH_FUNCTION},
        names="f has 72 lines",
    ),
    Case(
        rule=rules.hard_size_limits,
        broken={"tests/a.py": "x = 1\n" * 601},
        kept={"tests/a.py": "x = 1\n" * 600},
        names="601 lines",
    ),
    Case(
        rule=rules.soft_size_limits,
        broken={f"planner/{name}.py": "x = 1\n" * 401 for name in "ab"},
        kept={"planner/a.py": "x = 1\n" * 401, "planner/b.py": "x = 1\n"},
        names="401 lines",
    ),
    Case(
        rule=rules.few_positional_parameters,
        broken=source("planner/a.py", "class A:\n    def f(self, a, b, c, d): ..."),
        kept=source("planner/a.py", "class A:\n    def f(self, a, b, c, *, d): ...\n    def _g(self, a, b, c, d): ..."),
        names="f takes 4",
    ),
    Case(
        rule=rules.few_positional_parameters,
        broken=source("planner/a.py", "@app.command()\ndef f(a, b, c, d): ..."),
        kept=source("scheduler/entrypoints/a.py", "@app.command()\ndef f(a, b, c, d): ..."),
        names="f takes 4",
    ),
    Case(
        rule=rules.init_reexports_only,
        broken=source("planner/__init__.py", "LIMIT = 3"),
        kept=source("planner/__init__.py", "from planner.a import f\n__all__ = ['f']"),
        names="__init__.py",
    ),
    Case(
        rule=rules.enum_names_once,
        broken=source("planner/a.py", "class State(StrEnum): ...", **{"workers/b.py": "class State(enum.Enum): ..."}),
        kept=source("planner/a.py", "class State(StrEnum): ...", **{"workers/b.py": "class Other(enum.Enum): ..."}),
        names="enum State",
    ),
    Case(
        rule=rules.one_vocabulary,
        broken=source("planner/a.py", "class TaskState: ..."),
        kept=source("planner/a.py", "class ProcessGroupSpec: ...\nclass LazyGroup(typer.core.TyperGroup): ..."),
        names="the word Task",
    ),
    Case(
        rule=rules.no_first_party_import_in_functions,
        broken=source("scheduler/core/a.py", "def f():\n    from trimtab import job"),
        kept=source("scheduler/entrypoints/a.py", "def f():\n    from trimtab import job\n    import json"),
        names="trimtab is imported inside a function",
    ),
    Case(
        rule=rules.documented,
        broken=source("planner/a.py", "def f(): ..."),
        kept=source("planner/a.py", "def f():\n    'F.'\ndef _g(): ..."),
        names="f without a docstring",
    ),
    Case(
        rule=rules.documented,
        broken=source("planner/a.py", "class P(Protocol):\n    'P.'\n    def f(self): ..."),
        kept=source("planner/a.py", "class P(Protocol):\n    'P.'\n    def f(self):\n        'F.'"),
        names="f without a docstring",
    ),
    Case(
        rule=rules.typed,
        broken=source("planner/a.py", "def f(a: int, *, b=1) -> None: ..."),
        kept=source("planner/a.py", "class A:\n    def f(self, a: int, *, b: int = 1) -> None: ..."),
        names="no type for b",
    ),
    Case(
        rule=rules.pure_packages,
        broken=source("scheduler/core/a.py", "import time"),
        kept=source("scheduler/service/a.py", "import time"),
        names="time in a pure package",
    ),
    Case(
        rule=rules.pure_packages,
        broken=source("planner/a.py", "now = datetime.now(UTC)"),
        kept=source("planner/a.py", "later = now + timedelta(hours=1)"),
        names="datetime.now",
    ),
    Case(
        rule=rules.pure_packages,
        broken=source("planner/a.py", "draw = np.random.default_rng()"),
        kept=source("planner/a.py", "draw = np.random.default_rng(seed)"),
        names="without a seed",
    ),
    Case(
        rule=rules.standard_library_only,
        broken=source("workers/agent/a.py", "import psutil"),
        kept=source("workers/agent/a.py", "import os\nfrom trimtab import orders\nfrom workers.agent import b"),
        names="psutil",
    ),
    Case(
        rule=rules.standard_library_only,
        broken=source("workers/agent/a.py", "from workers.train import loop"),
        kept=source("workers/train/a.py", "from workers.train import loop\nimport torch"),
        names="workers.train",
    ),
    Case(
        rule=rules.third_parties_at_home,
        broken=source("scheduler/service/a.py", "import apsw"),
        kept=source("scheduler/adapters/a.py", "import apsw"),
        names="its home is scheduler.adapters",
    ),
    Case(
        rule=rules.third_parties_at_home,
        broken=source("scheduler/adapters/a.py", "import leftpad"),
        kept=source("scheduler/adapters/a.py", "import json"),
        names="leftpad has no home",
    ),
    Case(
        rule=rules.no_relative_paths,
        broken=source("workers/a.py", "sys.path.insert(0, 'x')"),
        kept=source("workers/a.py", "print(sys.path)"),
        names="sys.path",
    ),
    Case(
        rule=tree_rules.no_forbidden_words,
        broken={"docs/a.md": f"see {HOST}/simple"},
        kept={"docs/a.md": "see the package index"},
        names=HOST,
    ),
    Case(
        rule=tree_rules.no_forbidden_words,
        broken={"docs/a.md": f"cd {HOME}"},
        kept={"docs/a.md": "see s3://bucket/work/run and /homework/main/"},
        names="docs/a.md:1",
    ),
    Case(
        rule=tree_rules.no_debris,
        broken={"docs/.a.md.swp": "x", "run.log": "x"},
        kept={"docs/long-run.log": "x"},
        names=".swp",
    ),
    Case(
        rule=tree_rules.declared_are_imported,
        broken=source("planner/a.py", "", **{"pyproject.toml": PROJECT.format(base='"numpy"', runtime="")}),
        kept=source("planner/a.py", "import numpy", **{"pyproject.toml": PROJECT.format(base='"numpy"', runtime="")}),
        names="numpy is declared and never imported",
    ),
    Case(
        rule=tree_rules.declared_are_imported,
        broken=source("planner/a.py", "import yaml", **{"pyproject.toml": PROJECT.format(base="", runtime="")}),
        kept=source("planner/a.py", "import yaml", **{"pyproject.toml": PROJECT.format(base='"PyYAML>6"', runtime="")}),
        names="yaml is not declared",
    ),
    Case(
        rule=tree_rules.declared_are_imported,
        broken=source("planner/a.py", "", **{"pyproject.toml": PROJECT.format(base='"highspy"', runtime="")}),
        kept=source("planner/a.py", "import pulp", **{"pyproject.toml": PROJECT.format(base='"highspy", "pulp"', runtime="")}),
        names="highspy is declared and never imported",
    ),
    Case(
        rule=tree_rules.inputs_match_declared,
        broken={
            "pyproject.toml": PROJECT.format(base='"numpy"', runtime=""),
            "requirements/base.in": "rich\n",
            "requirements/runtime.in": "",
        },
        kept={
            "pyproject.toml": PROJECT.format(base='"numpy>=2"', runtime='"torch"'),
            "requirements/base.in": "# arrays\nnumpy\n",
            "requirements/runtime.in": "torch\n",
        },
        names="numpy: only in pyproject.toml",
    ),
    Case(
        rule=tree_rules.locks_are_whole,
        broken={"requirements/base.in": "numpy\n", "requirements/lock/base-py3.11-pulp3.txt": "# x\nnumpy==2.0\n"},
        kept={"requirements/base.in": "numpy\n", "requirements/lock/base-py3.11-pulp3.txt": "# x\n" + PIN},
        names="not pinned with a hash",
    ),
    Case(
        rule=tree_rules.locks_are_whole,
        broken={"requirements/base.in": "numpy\nrich\n", "requirements/lock/base-py3.11-pulp3.txt": "# x\n" + PIN},
        kept={"requirements/runtime.in": "numpy\ntorch\n", "requirements/lock/runtime-cpu-py3.11.txt": "# x\n" + PIN},
        names="rich is missing",
    ),
]


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write a tree of files below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule.__name__}: {case.names}")
def test_rule_catches_what_it_forbids_and_lets_the_rest_pass(case: Case, tmp_path: Path) -> None:
    found = case.rule(plant(tmp_path / "broken", case.broken))
    assert any(case.names in str(violation) for violation in found), found
    assert case.rule(plant(tmp_path / "kept", case.kept)) == []


def test_every_rule_has_a_case_that_it_catches() -> None:
    every = {*rules.SOURCE_RULES, *tree_rules.TREE_RULES}
    assert {rule.__name__ for rule in every} == {case.rule.__name__ for case in CASES}


def test_wheel_rule_catches_missing_and_foreign_files(tmp_path: Path) -> None:
    tree = plant(tmp_path / "tree", {f"{package}/py.typed": "" for package in PACKAGES} | {"planner/a.py": ""})
    wheel = tmp_path / "trimtab-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ["tests/b.py", "trimtab-0.dist-info/METADATA", *(f"{package}/py.typed" for package in PACKAGES)]:
            archive.writestr(name, "")
    found = [str(violation) for violation in tree_rules.wheel_contents(tree, wheel)]
    assert found == ["planner/a.py:1: missing from the wheel", "tests/b.py:1: in the wheel, not in the packages"]
