"""Settings from the environment."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from scheduler.config import Home, read_settings
from trimtab.errors import SpecError


def test_the_state_folder_follows_the_convention() -> None:
    assert read_settings({"TRIMTAB_HOME": "/x/y"}).home.path == Path("/x/y")
    assert read_settings({"XDG_STATE_HOME": "/s"}).home.path == Path("/s/trimtab")
    assert read_settings({"XDG_STATE_HOME": "relative"}).home.path == Path.home() / ".local/state/trimtab"


def test_numbers_are_read() -> None:
    found = read_settings({"TRIMTAB_CPU_DEVICES": "4", "TRIMTAB_PLAN_SECONDS": "2.5", "TRIMTAB_RUNTIME_PYTHON": "/p"})
    assert (found.cpu_devices, found.plan_seconds, found.runtime_python) == (4, 2.5, "/p")
    assert read_settings({}).cpu_devices is None


def test_files_of_devices_and_prices(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("")
    found = read_settings({"TRIMTAB_DEVICES": str(path), "TRIMTAB_PRICES": str(path)})
    assert (found.devices, found.prices) == (path, path)
    assert (read_settings({}).devices, read_settings({}).prices) == (None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRIMTAB_CPU_DEVICES", "0"),
        ("TRIMTAB_CPU_DEVICES", "two"),
        ("TRIMTAB_CPU_DEVICES", "-1"),
        ("TRIMTAB_CPU_DEVICES", "²"),
        ("TRIMTAB_PLAN_SECONDS", "0"),
        ("TRIMTAB_PLAN_SECONDS", "nan"),
        ("TRIMTAB_PLAN_SECONDS", "soon"),
        ("TRIMTAB_DEVICES", "/nowhere/devices.yaml"),
        ("TRIMTAB_PRICES", "/"),
    ],
)
def test_a_wrong_value_names_its_variable_and_what_is_allowed(name: str, value: str) -> None:
    with pytest.raises(SpecError) as found:
        read_settings({name: value})
    (problem,) = found.value.problems
    assert problem.path == name
    assert problem.allowed


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "h").mkdir(mode=0o755)
    Home(path=tmp_path / "h").create()
    assert stat.S_IMODE((tmp_path / "h").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="cannot be made"):
        Home(path=tmp_path / "file" / "h").create()
    with pytest.raises(SpecError, match="too long"):
        Home(path=tmp_path / ("x" * 100)).create()
