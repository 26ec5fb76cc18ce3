"""The set-up script: what it refuses, what it leaves alone, and how it chooses the build of torch."""

from __future__ import annotations

import itertools
import json
import sys
import zipfile
from pathlib import Path

import pytest

from tools import setup_env

PYTHON = f"py{sys.version_info[0]}.{sys.version_info[1]}"
THIS_ENV = Path(sys.prefix)


@pytest.fixture
def folder_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip's configured index is a folder, which offers an ordinary and a CPU build of a package."""
    index = tmp_path / "index"
    index.mkdir()
    for version in ("2.15.0", "2.15.0+cpu"):
        with zipfile.ZipFile(index / f"thing-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"thing-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n")
            wheel.writestr(f"thing-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"thing-{version}.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return index


def test_the_index_is_asked_for_the_exact_version(folder_index: Path) -> None:
    assert setup_env.offers(THIS_ENV, "thing", "2.15.0+cpu")
    assert not setup_env.offers(THIS_ENV, "thing", "2.16.0+cpu")
    (folder_index / "thing-2.15.0+cpu-py3-none-any.whl").unlink()
    assert not setup_env.offers(THIS_ENV, "thing", "2.15.0+cpu")


def test_an_index_that_does_not_answer_counts_as_no(folder_index: Path) -> None:
    assert not setup_env.offers(THIS_ENV, "no-such-thing", "1.0+cpu")


def test_steps_name_a_lock_for_this_python_and_end_with_the_checkout() -> None:
    names = [name for name, _ in setup_env.steps(["dev", "runtime"], pulp="3", editable=True)]
    assert names == [f"dev-{PYTHON}-pulp3", f"runtime-{PYTHON}", "project"]
    names = [name for name, _ in setup_env.steps(["base"], pulp="3", editable=False)]
    assert names == [f"base-{PYTHON}-pulp3", f"build-{PYTHON}"]


def test_peers_bring_the_runtime_that_they_stand_on() -> None:
    names = [name for name, _ in setup_env.steps(["dev", "peers"], pulp="3", editable=False)]
    assert names == [f"dev-{PYTHON}-pulp3", f"runtime-{PYTHON}", f"peers-{PYTHON}"]


@pytest.fixture
def pip_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What pip would be asked, each with the packages of its requirements file; small locks of the runtime and the peers."""
    (tmp_path / f"runtime-{PYTHON}.txt").write_text("torch==9.0 \\\n    --hash=x\n")
    for kind, more in (("peers", "torchvision==9.1 \\\n    --hash=x\n"), ("peers-cpu", "")):
        (tmp_path / f"{kind}-{PYTHON}.txt").write_text(f"# x\ndeepspeed==1 \\\n    --hash=x\nhjson==1 \\\n    --hash=x\n{more}")
    asked: list[list[str]] = []

    def record(_venv: Path, arguments: list[str]) -> None:
        files = [Path(name).read_text() for flag, name in itertools.pairwise(arguments) if flag == "-r"]
        pins = [line.split(" ")[0] for text in files for line in text.splitlines() if "==" in line]
        asked.append([*(word for word in arguments if not word.endswith("part.txt")), *pins])

    monkeypatch.setattr(setup_env, "LOCKS", tmp_path)
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    monkeypatch.setattr(setup_env, "pip", record)
    return asked


def test_only_what_has_no_wheel_is_built_and_comes_last(tmp_path: Path, pip_lines: list[list[str]]) -> None:
    setup_env.install_peers(tmp_path)
    wheels, built = pip_lines
    assert wheels[-2:] == ["hjson==1", "torchvision==9.1"]
    assert "--no-binary" not in wheels
    assert built[-1] == "deepspeed==1"
    assert built[built.index("--no-binary") + 1] == "deepspeed"
    assert "--no-build-isolation" in built
    assert all("--require-hashes" in line for line in pip_lines)


@pytest.mark.parametrize("offered", [True, False])
def test_beside_a_cpu_build_of_torch_goes_the_one_of_torchvision(
    tmp_path: Path, pip_lines: list[list[str]], monkeypatch: pytest.MonkeyPatch, offered: bool
) -> None:
    monkeypatch.setattr(setup_env, "is_installed", lambda _venv, name: name == "torch-9.0+cpu")
    monkeypatch.setattr(
        setup_env, "offers", lambda _venv, name, version: offered and (name, version) == ("torchvision", "9.1+cpu")
    )
    if not offered:
        with pytest.raises(setup_env.SetupError, match=r"no torchvision 9\.1\+cpu.*TRIMTAB_TORCH=index"):
            setup_env.install_peers(tmp_path)
        return
    setup_env.install_peers(tmp_path)
    assert pip_lines[-1][-1] == "torchvision==9.1+cpu"
    assert not any("torchvision==9.1" in line for line in pip_lines)


def test_a_lock_that_does_not_exist_is_refused_with_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"dev-{PYTHON}-pulp3.txt").write_text("x")
    monkeypatch.setattr(setup_env, "LOCKS", tmp_path)
    with pytest.raises(setup_env.SetupError, match=f"PuLP 4 needs Python 3.12.*dev-{PYTHON}-pulp3"):
        setup_env.steps(["dev"], pulp="4", editable=False)


def test_an_environment_at_the_same_digests_is_left_alone(tmp_path: Path) -> None:
    stamp = dict(setup_env.steps(["dev", "runtime"], pulp="3", editable=True))
    (tmp_path / setup_env.STAMP_NAME).write_text(json.dumps(stamp))
    assert not setup_env.make_env(tmp_path, sets=["dev", "runtime"], pulp="3", torch="auto", editable=True)
    # `dev` holds all of `base`, so asking for less installs nothing either.
    assert not setup_env.make_env(tmp_path, sets=["base"], pulp="3", torch="auto", editable=True)


def test_a_changed_lock_is_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = tmp_path / "lock"
    locks.mkdir()
    for name in (f"dev-{PYTHON}-pulp3", f"base-{PYTHON}-pulp3", f"build-{PYTHON}"):
        (locks / f"{name}.txt").write_text(name)
    monkeypatch.setattr(setup_env, "LOCKS", locks)
    before = setup_env.steps(["dev"], pulp="3", editable=False)
    (locks / f"dev-{PYTHON}-pulp3.txt").write_text("changed")
    assert setup_env.steps(["dev"], pulp="3", editable=False) != before
    assert setup_env.covered_by_dev(dict(before), "3") == set()


def test_the_other_line_of_pulp_is_not_taken_for_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[str] = []
    monkeypatch.setattr(setup_env, "install_lock", lambda _venv, lock: installed.append(lock.stem))
    monkeypatch.setattr(setup_env, "run", lambda _command, _problem: None)
    monkeypatch.setattr(setup_env, "LOCKS", tmp_path)
    for name in ("dev-{}-pulp3", "dev-{}-pulp4", "base-{}-pulp3", "base-{}-pulp4", "build-{}"):
        (tmp_path / f"{name.format(PYTHON)}.txt").write_text(name)
    for pulp in ("3", "3", "4", "3"):
        setup_env.make_env(tmp_path, sets=["dev"], pulp=pulp, torch="auto", editable=False)
    assert installed == [f"dev-{PYTHON}-pulp{pulp}" for pulp in ("3", "4", "3")]


def test_another_pythons_environment_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.9.2\n")
    with pytest.raises(setup_env.SetupError, match=r"made with Python 3\.9"):
        setup_env.check_venv_python(tmp_path)


def test_too_small_a_disk_is_said_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_env, "TORCH_DISK_BYTES", 10**18)
    with pytest.raises(setup_env.SetupError, match="make demo-plan"):
        setup_env.check_disk(tmp_path)


def test_a_broken_stamp_means_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "stamp").write_text('{"dev": ')
    assert setup_env.read_stamp(tmp_path / "stamp") == {}
    assert setup_env.read_stamp(tmp_path / "missing") == {}
