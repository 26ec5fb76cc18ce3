"""Settings of one installation, from the environment: where state is kept and what is set by hand."""

from __future__ import annotations

import difflib
import grp
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import Problem, SpecError

ENV_HOME = "TRIMTAB_HOME"
ENV_CPU_DEVICES = "TRIMTAB_CPU_DEVICES"
ENV_RUNTIME_PYTHON = "TRIMTAB_RUNTIME_PYTHON"
ENV_PLAN_SECONDS = "TRIMTAB_PLAN_SECONDS"
ENV_SERVER = "TRIMTAB_SERVER"
ENV_SHARED_SOCKET = "TRIMTAB_SHARED_SOCKET"
ENV_SHARED_GROUP = "TRIMTAB_SHARED_GROUP"
ENV_DEVICES = "TRIMTAB_DEVICES"
ENV_PRICES = "TRIMTAB_PRICES"

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
    def calibrations(self) -> Path:
        """What runs measured, for calibration; written by us alone."""
        return self.path / "calibrations.json"

    @property
    def devices(self) -> Path:
        """The user's own device types, if there is such a file."""
        return self.path / "devices.yaml"

    @property
    def prices(self) -> Path:
        """The user's own prices, if there is such a file."""
        return self.path / "prices.yaml"

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
class Share:
    """A second socket of the control process, for the members of a Unix group (its number)."""

    socket: Path
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set from outside. ``cpu_devices`` None: as many as the machine suggests.

    ``runtime_python`` is the interpreter of our own workers (it has torch); empty: the one that runs now. ``share``: the queue is
    opened to a group. ``server``: the socket of somebody else's control process, to be used instead of an own one.
    ``devices`` and ``prices``: files of own device types and prices, instead of those in the state folder.
    """

    home: Home
    cpu_devices: int | None = None
    runtime_python: str = ""
    plan_seconds: float = DEFAULT_PLAN_SECONDS
    share: Share | None = None
    server: Path | None = None
    devices: Path | None = None
    prices: Path | None = None


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings that environment variables give. Raises SpecError naming the variable."""
    return Settings(
        home=Home(path=_home(environment)),
        cpu_devices=_count(environment, ENV_CPU_DEVICES),
        runtime_python=environment.get(ENV_RUNTIME_PYTHON, ""),
        plan_seconds=_seconds(environment, ENV_PLAN_SECONDS, DEFAULT_PLAN_SECONDS),
        share=_share(environment),
        server=_server(environment),
        devices=_file(environment, ENV_DEVICES),
        prices=_file(environment, ENV_PRICES),
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


def _share(environment: Mapping[str, str]) -> Share | None:
    path, group = environment.get(ENV_SHARED_SOCKET, ""), environment.get(ENV_SHARED_GROUP, "")
    if not path and not group:
        return None
    if not path or not group:
        missing = ENV_SHARED_GROUP if path else ENV_SHARED_SOCKET
        raise _wrong(missing, "missing", f"both {ENV_SHARED_SOCKET} and {ENV_SHARED_GROUP}, or neither")
    try:
        number = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        known = [entry.gr_name for entry in grp.getgrall()]
        close = difflib.get_close_matches(group, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise _wrong(ENV_SHARED_GROUP, f"found {group!r}", f"a group of this machine, or its number{hint}") from None
    return Share(socket=_socket_path(ENV_SHARED_SOCKET, path), group=number)


def _server(environment: Mapping[str, str]) -> Path | None:
    text = environment.get(ENV_SERVER, "")
    return _socket_path(ENV_SERVER, text.removeprefix("unix:")) if text else None


def _file(environment: Mapping[str, str], name: str) -> Path | None:
    text = environment.get(name, "")
    if not text:
        return None
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise _wrong(name, f"found {text!r}, which is no file", "the path of a file, or nothing for the one in the state folder")
    return path


def _socket_path(name: str, text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise _wrong(name, f"found {text!r}", f"the absolute path of a unix socket, at most {MAX_SOCKET_PATH_BYTES} bytes")
    return path


def _wrong(name: str, message: str, allowed: str) -> SpecError:
    return SpecError([Problem(path=name, message=message, allowed=allowed)], source="environment")
