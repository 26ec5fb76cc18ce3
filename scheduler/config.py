"""Settings of one installation, from the environment: where state is kept and what is set by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import Problem, SpecError

ENV_HOME = "TRIMTAB_HOME"
ENV_CPU_DEVICES = "TRIMTAB_CPU_DEVICES"
ENV_RUNTIME_PYTHON = "TRIMTAB_RUNTIME_PYTHON"
ENV_PLAN_SECONDS = "TRIMTAB_PLAN_SECONDS"

MAX_SOCKET_PATH_BYTES = 100  # the kernel's limit is 107 with the final zero; agents.sock must fit too
DEFAULT_PLAN_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The state folder (mode 0700) and the names in it."""

    path: Path

    @property
    def lock(self) -> Path:
        """Held by the control process for as long as it lives."""
        return self.path / "control.lock"

    @property
    def socket(self) -> Path:
        """The REST API."""
        return self.path / "control.sock"

    @property
    def agents_socket(self) -> Path:
        """The agents' gateway."""
        return self.path / "agents.sock"

    @property
    def identity(self) -> Path:
        """Who the control process is (JSON)."""
        return self.path / "control.json"

    @property
    def log(self) -> Path:
        """Log of the control process."""
        return self.path / "control.log"

    @property
    def store(self) -> Path:
        """The SQLite store."""
        return self.path / "store.sqlite"

    @property
    def probes(self) -> Path:
        """Folder of probe reports, one file per fingerprint."""
        return self.path / "probes"

    @property
    def jobs(self) -> Path:
        """Folder of checkpoints, orders and logs."""
        return self.path / "jobs"

    @property
    def agent(self) -> Path:
        """Folder of the injected agent, one file per digest."""
        return self.path / "agent"

    def create(self) -> None:
        """Make the folder, readable by its owner alone. Raises SpecError where the path cannot serve."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.chmod(0o700)
        except OSError as error:
            raise _wrong(ENV_HOME, f"{self.path} cannot be made: {error.strerror}", "a folder that you may write to") from error
        if len(os.fsencode(self.agents_socket)) > MAX_SOCKET_PATH_BYTES:
            message = f"{self.path} is too long for the path of a unix socket"
            raise _wrong(ENV_HOME, message, f"at most {MAX_SOCKET_PATH_BYTES - len('/agents.sock')} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set from outside. ``cpu_devices`` None: as many as the machine suggests.

    ``runtime_python`` is the interpreter of our own workers (it has torch); empty: the one that runs now.
    """

    home: Home
    cpu_devices: int | None = None
    runtime_python: str = ""
    plan_seconds: float = DEFAULT_PLAN_SECONDS


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings that environment variables give. Raises SpecError naming the variable."""
    return Settings(
        home=Home(path=_home(environment)),
        cpu_devices=_count(environment, ENV_CPU_DEVICES),
        runtime_python=environment.get(ENV_RUNTIME_PYTHON, ""),
        plan_seconds=_seconds(environment, ENV_PLAN_SECONDS, DEFAULT_PLAN_SECONDS),
    )


def _home(environment: Mapping[str, str]) -> Path:
    named = environment.get(ENV_HOME)
    if named:
        return Path(named).expanduser().absolute()
    state = environment.get("XDG_STATE_HOME")
    base = Path(state) if state and Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "trimtab"


def _count(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 4096:
        raise _wrong(name, f"found {text!r}", "a whole number from 1 to 4096")
    return int(text)


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.1 <= value <= 3600:
        raise _wrong(name, f"found {text!r}", "seconds from 0.1 to 3600")
    return value


def _wrong(name: str, message: str, allowed: str) -> SpecError:
    return SpecError([Problem(path=name, message=message, allowed=allowed)], source="environment")
