"""The check that our package names are ours, on real metadata in a folder."""

from __future__ import annotations

from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from scheduler.entrypoints import installation
from scheduler.entrypoints.installation import check_claims, check_installation, top_level
from trimtab.errors import InstallationError


def install(folder: Path, name: str, files: list[str]) -> None:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def found(folder: Path) -> list[Distribution]:
    return list(distributions(path=[str(folder)]))


def test_ours_alone_is_sound(tmp_path: Path) -> None:
    install(tmp_path, "trimtab", ["trimtab/__init__.py", "planner/__init__.py"])
    install(tmp_path, "other", ["other/planner/__init__.py", "plannerx/__init__.py"])
    check_claims(found(tmp_path))


def test_another_distribution_with_one_of_our_names_is_refused(tmp_path: Path) -> None:
    install(tmp_path, "trimtab", ["trimtab/__init__.py"])
    install(tmp_path, "rival-planner", ["rival/__init__.py", "planner/__init__.py", "workers/__init__.py"])
    with pytest.raises(InstallationError, match="'rival-planner' installs 'planner', 'workers' too"):
        check_claims(found(tmp_path))


def test_no_metadata_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InstallationError, match="not installed here"):
        check_claims(found(tmp_path))


def test_a_distribution_without_a_list_of_files_claims_nothing(tmp_path: Path) -> None:
    install(tmp_path, "bare", [])
    (only,) = found(tmp_path)
    assert top_level(only) == frozenset()


def test_a_shadowing_package_is_named_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = tmp_path / "planner"
    shadow.mkdir()
    (shadow / "__init__.py").write_text("")
    import importlib.machinery
    import sys

    spec = importlib.machinery.PathFinder.find_spec("planner", [str(tmp_path)])
    real = importlib.util.find_spec
    monkeypatch.setattr(installation.importlib.util, "find_spec", lambda name: spec if name == "planner" else real(name))
    with pytest.raises(InstallationError, match=f"'planner' would come from {shadow}"):
        check_installation(tmp_path)
    assert "planner" not in sys.modules or not str(sys.modules["planner"].__file__).startswith(str(tmp_path))


def test_a_good_outcome_is_kept_until_something_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_installation(tmp_path)
    kept = tmp_path / "installation.json"
    assert kept.exists()

    def never(*_: object) -> None:
        raise AssertionError("looked again")

    monkeypatch.setattr(installation, "check_claims", never)
    check_installation(tmp_path)
    kept.write_text("[]")
    with pytest.raises(AssertionError, match="looked again"):
        check_installation(tmp_path)
