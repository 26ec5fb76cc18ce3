"""The real command line as a program, in a state folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from scheduler.config import Home
from scheduler.entrypoints.control.identity import ControlIdentity, read_identity
from trimtab.client import Client

COMMAND = (sys.executable, "-P", "-m", "scheduler.entrypoints.cli.main")


@dataclass(slots=True, kw_only=True)
class Shell:
    """Commands with the same state folder. ``cwd`` is where they run."""

    home: Home
    cwd: Path
    num_cpu_devices: int = 2

    @property
    def client(self) -> Client:
        """Client of this folder's control process."""
        return Client(f"unix:{self.home.socket}")

    def environment(self) -> dict[str, str]:
        """The environment of the commands."""
        return {
            **os.environ,
            "TRIMTAB_HOME": str(self.home.path),
            "TERM": "dumb",
            "TRIMTAB_CPU_DEVICES": str(self.num_cpu_devices),
        }

    def __call__(self, *arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.cwd,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command; its stdout and stderr are pipes."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.cwd,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def identity(self) -> ControlIdentity:
        """The control process, which must live."""
        found = read_identity(self.home)
        assert found is not None, "no control process lives"
        return found

    def kill_control(self) -> int:
        """``kill -9`` of the control process; its process id."""
        pid = self.identity().process.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: read_identity(self.home) is None)
        return pid


@contextmanager
def shell() -> Iterator[Shell]:
    """A shell in fresh folders; at the end every job is cancelled and the control process ended."""
    with TemporaryDirectory(prefix="tt-") as state, TemporaryDirectory(prefix="tt-work-") as work:
        found = Shell(home=Home(path=Path(state)), cwd=Path(work))
        try:
            yield found
        finally:
            if found("server", "status").returncode == 0:
                running = found("list", "--active", "-o", "name").stdout.split()
                if running:
                    found("cancel", *running)
                    wait_until(lambda: not found("list", "--active", "-o", "name").stdout.split())
                found("server", "stop")


def wait_until(done: Callable[[], bool], *, patience_s: float = 60.0) -> None:
    """Wait for a condition; fails after ``patience_s``."""
    end = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
