"""What the command line does not import: help and completion must stay quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scheduler.entrypoints.cli.app import ENTRIES

HEAVY = (
    "rich",
    "pydantic",
    "fastapi",
    "uvicorn",
    "yaml",
    "numpy",
    "pulp",
    "highspy",
    "torch",
    "http.client",
    "planner",
    "apsw",
    "psutil",
    "matplotlib",
)


def imported(call: str) -> set[str]:
    """Modules that are loaded after a command line, in a fresh interpreter."""
    code = (
        "import sys\n"
        "from scheduler.entrypoints.cli.main import run\n"
        f"code = run({call!r}.split())\n"
        "print(*sys.modules, file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("call", ["--help", "--version"])
def test_help_loads_no_command_and_nothing_heavy(call: str) -> None:
    modules = imported(call)
    assert not modules & set(HEAVY)
    assert not [name for name in modules if name.startswith("scheduler.entrypoints.cli.commands.")]


def test_a_command_loads_itself_alone_and_no_web_server() -> None:
    modules = imported("list --help")
    loaded = [name for name in modules if name.startswith("scheduler.entrypoints.cli.commands.")]
    assert loaded == ["scheduler.entrypoints.cli.commands.list"]
    assert not modules & {"fastapi", "uvicorn", "numpy", "pulp", "planner", "torch"}


@pytest.mark.parametrize("call", ["plan --help", "estimate --help", "compare --help"])
def test_a_command_that_can_draw_loads_no_drawing_before_it_draws(call: str) -> None:
    assert not imported(call) & {"matplotlib", "numpy", "planner", "torch"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    from scheduler.entrypoints.cli.main import run

    assert run(["completion", shell]) == 0
    text = capsys.readouterr().out
    for entry in ENTRIES:
        assert entry.name in text


def test_bash_completes_commands_options_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    from scheduler.entrypoints.cli.main import run

    run(["completion", "bash"])
    script = capsys.readouterr().out + (
        'complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _trimtab; echo "${COMPREPLY[@]}"; }\n'
        "complete_line trimtab pl\n"
        "complete_line trimtab plan --in\n"
        "complete_line trimtab server st\n"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["plan", "--inventory", "start stop status"]
