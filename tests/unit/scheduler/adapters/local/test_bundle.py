"""The agent's archive: the same bytes every time, and nothing needed to run it but an interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scheduler.adapters.local import bundle
from trimtab.errors import ExecutorError, InstallationError


def test_the_archive_has_the_agent_and_the_kernel_and_nothing_else() -> None:
    names = set(bundle.sources())
    assert {"__main__.py", "workers/__init__.py", "workers/agent/main.py", "trimtab/orders.py"} <= names
    assert {name.split("/")[0] for name in names} == {"__main__.py", "workers", "trimtab"}
    assert {name.split("/")[1] for name in names if name.startswith("workers/")} == {"__init__.py", "agent"}


def test_it_is_made_without_importing_the_workers() -> None:
    code = (
        "import sys; from scheduler.adapters.local import bundle; bundle.build(bundle.sources()); print('workers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_root())
    assert done.stdout.strip() == "False"


def test_equal_sources_give_equal_bytes(tmp_path: Path) -> None:
    files = dict(bundle.sources())
    assert bundle.build(files) == bundle.build(dict(reversed(files.items())))
    assert bundle.build(files) != bundle.build(files | {"trimtab/orders.py": b""})
    first = bundle.install(tmp_path)
    changed = first.stat().st_mtime_ns
    assert bundle.install(tmp_path) == first
    assert first.stat().st_mtime_ns == changed
    assert first.stat().st_mode & 0o777 == 0o600


def test_a_torn_archive_is_replaced(tmp_path: Path) -> None:
    path = bundle.install(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert bundle.install(tmp_path).read_bytes() == whole


def test_it_runs_in_an_empty_folder_with_nothing_installed(tmp_path: Path) -> None:
    path = bundle.install(tmp_path / "archive")
    empty = tmp_path / "empty"
    empty.mkdir()
    argv = [sys.executable, "-I", "-S", str(path)]
    done = subprocess.run([*argv, "--help"], cwd=empty, env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "order.json" in done.stdout
    done = subprocess.run([*argv, str(empty)], cwd=empty, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "no order can be read" in done.stderr
    assert list(empty.iterdir()) == []


def test_every_module_of_it_comes_from_the_archive_or_the_standard_library(tmp_path: Path) -> None:
    path = bundle.install(tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    code = f"""
import sys
sys.path.insert(0, {str(path)!r})
import workers.agent.main
for name, module in sys.modules.items():
    file = getattr(module, "__file__", None)
    if file and not file.startswith({str(path)!r}) and name.split(".")[0] not in sys.stdlib_module_names:
        print(name, file)
    assert "site-packages" not in (file or ""), name
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False, env={})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_folder_that_cannot_be_written_is_an_executor_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExecutorError, match="cannot be put"):
        bundle.install(tmp_path / "file" / "agent")


def test_a_missing_agent_is_an_installation_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InstallationError, match="not installed"):
        bundle.sources()


def _root() -> str:
    return os.fspath(Path(__file__).resolve().parents[5])
