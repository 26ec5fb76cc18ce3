"""Executor on this machine: one detached agent per attempt, found again by its folder after a restart of the control process."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scheduler.adapters.local import bundle
from scheduler.adapters.local.folders import JobFolders
from scheduler.adapters.local.machine import LocalMachine
from scheduler.adapters.local.sight import Look, agent_process, last_report, look, read
from scheduler.config import Home
from scheduler.ports import Observation, Sight
from trimtab import processes, wire
from trimtab.attempt_files import (
    AGENT_FILE,
    AGENT_LOCK,
    AGENT_LOG,
    CHECKPOINT_FILE,
    EXIT_FILE,
    FAMILY_LOCK,
    LOG_FOLDER,
    ORDER_FILE,
    REQUEST_FILE,
    SPAWNED_FILE,
    StandingRequest,
)
from trimtab.errors import ExecutorError
from trimtab.files import try_lock, write_atomically
from trimtab.ids import AttemptRef
from trimtab.inventory import Inventory
from trimtab.lifecycle import ReleaseReason
from trimtab.orders import ENV_ATTEMPT, ENV_ATTEMPT_DIR, ExitNote, ReportKind, RunOrder, RunReport
from trimtab.processes import ProcessIdentity

_LOG = logging.getLogger("trimtab.executor")
_FORGOTTEN = (ORDER_FILE, SPAWNED_FILE, REQUEST_FILE, CHECKPOINT_FILE, FAMILY_LOCK, "worker-order.json", "plan.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """How agents are run. ``kill_margin_s`` after the end of a stop's grace the executor itself kills what still lives."""

    python: str = sys.executable
    claim_for_s: float = 600.0
    beat_s: float = 1.0
    tell_for_s: float = 15.0
    log_limit_bytes: int = 256 << 20
    kill_margin_s: float = 5.0


class LocalExecutor:
    """See the port. Thread-safe; one per state folder (the control process holds its lock)."""

    def __init__(
        self,
        home: Home,
        machine: LocalMachine,
        *,
        options: AgentOptions = AgentOptions(),
        environment: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``environment`` is what ranks inherit below what their order says; by default that of the control process.

        Raises ExecutorError on a machine without ``/proc``: without it no death can be proven.
        """
        if not Path("/proc/self/stat").exists():
            raise ExecutorError(f"running jobs on this machine needs Linux with /proc, found {sys.platform}")
        self._home = home
        self._folders = JobFolders(home.jobs)
        self._machine = machine
        self._options = options
        self._environment = dict(os.environ if environment is None else environment)
        self._now = now
        self._lock = threading.Lock()
        self._known = set(self._folders.started())
        self._dead: dict[AttemptRef, Observation] = {}

    # ------------------------------------------------------------------------------------------------------------- commands

    def start(self, order: RunOrder) -> None:
        """See the port."""
        folder = self._folders.attempt(order.attempt)
        if str(folder) != order.attempt_dir:
            raise ExecutorError(f"{order.attempt}: its folder is {folder} here, the order says {order.attempt_dir}")
        with self._lock:
            try:
                self._start(order, folder)
            except OSError as error:
                raise ExecutorError(f"{order.attempt} cannot be started: {error}") from error

    def stop(self, attempt: AttemptRef, *, grace_s: float) -> None:
        """See the port."""
        with self._lock:
            folder = self._folders.attempt(attempt)
            if not (folder / AGENT_LOCK).exists() and ((folder / EXIT_FILE).exists() or (folder / AGENT_FILE).exists()):
                return  # ended and forgotten
            try:
                if self._close_unstarted(attempt, folder):
                    return
                request = read(folder / REQUEST_FILE, StandingRequest) or StandingRequest()
                stop_by_s = min(time.monotonic() + grace_s, request.stop_by_s or float("inf"))
                self._ask(folder, StandingRequest(stop_by_s=stop_by_s, num_checkpoints=request.num_checkpoints))
            except (OSError, ValueError) as error:
                raise ExecutorError(f"{attempt} cannot be asked to stop: {error}") from error

    def checkpoint_now(self, attempt: AttemptRef) -> None:
        """See the port."""
        with self._lock:
            folder = self._folders.attempt(attempt)
            if attempt not in self._known or attempt in self._dead:
                return
            try:
                request = read(folder / REQUEST_FILE, StandingRequest) or StandingRequest()
                asked = StandingRequest(stop_by_s=request.stop_by_s, num_checkpoints=request.num_checkpoints + 1)
                self._ask(folder, asked)
            except (OSError, ValueError) as error:
                raise ExecutorError(f"{attempt} cannot be asked for a checkpoint: {error}") from error

    def forget(self, attempt: AttemptRef) -> None:
        """See the port. Raises ExecutorError for an attempt that is not dead."""
        with self._lock:
            if attempt not in self._known:
                return
            if attempt not in self._dead and self._observe(attempt).sight is not Sight.DEAD:
                raise ExecutorError(f"{attempt} is not dead: it cannot be forgotten")
            folder = self._folders.attempt(attempt)
            for name in _FORGOTTEN:
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / "kernel", ignore_errors=True)
            (folder / AGENT_LOCK).unlink(missing_ok=True)
            self._known.discard(attempt)
            self._dead.pop(attempt, None)

    def close(self) -> None:
        """See the port: agents are sessions of their own and go on."""

    # ---------------------------------------------------------------------------------------------------------------- looks

    def observe(self) -> Sequence[Observation]:
        """See the port."""
        with self._lock:
            return [self._dead.get(attempt) or self._observe(attempt) for attempt in sorted(self._known)]

    def inventory(self) -> Inventory:
        """See the port."""
        with self._lock:
            folders = [str(self._folders.attempt(attempt)) for attempt in self._known - self._dead.keys()]
        return self._machine.inventory(self._now(), attempt_dirs=folders)

    def _observe(self, attempt: AttemptRef) -> Observation:
        folder, at = self._folders.attempt(attempt), self._now()
        report = None
        try:
            seen = look(folder, attempt)
            if seen.sight is Sight.ALIVE and self._overdue(folder, seen):
                seen = look(folder, attempt)
            if seen.sight is Sight.DEAD:
                report = last_report(folder, attempt, at)
        except (OSError, ValueError) as error:
            # One folder that cannot be read must not hide all other attempts; without proof it is not dead.
            seen = Look(sight=Sight.UNSEEN, detail=f"{folder} cannot be read: {error}")
        observation = Observation(
            attempt=attempt, sight=seen.sight, at=at, node_id=self._machine.node_id, last_report=report, detail=seen.detail
        )
        if seen.sight is Sight.DEAD:
            self._dead[attempt] = observation
        return observation

    def _overdue(self, folder: Path, seen: Look) -> bool:
        """Kill an agent that outlived its stop: it hangs, is stopped by a signal, or never began. Its ranks die with it."""
        request = read(folder / REQUEST_FILE, StandingRequest)
        if request is None or request.stop_by_s is None or seen.agent is None:
            return False
        if time.monotonic() < request.stop_by_s + self._options.kill_margin_s or (folder / EXIT_FILE).exists():
            return False
        _LOG.warning("agent %d of %s did not end by itself: it is killed", seen.agent.pid, folder)
        processes.send(seen.agent, signal.SIGKILL)
        give_up_at_s = time.monotonic() + 1.0
        while processes.lives(seen.agent) and time.monotonic() < give_up_at_s:
            time.sleep(0.01)
        return True

    # ---------------------------------------------------------------------------------------------------------------- start

    def _start(self, order: RunOrder, folder: Path) -> None:
        if order.attempt in self._dead or _was_started(folder):
            if (folder / AGENT_LOCK).exists():
                self._known.add(order.attempt)
            return
        (folder / LOG_FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = try_lock(folder / AGENT_LOCK)
        self._known.add(order.attempt)
        if lock is None:
            return  # an agent lives that has not written its name yet
        try:
            if not _was_started(folder):
                _write(folder / ORDER_FILE, order)
                process = self._spawn(order, folder, lock)
                identity = processes.identify(process.pid)
                # One that ended at once has no start time any more; the mark that it was started is what counts.
                started = identity or ProcessIdentity(pid=process.pid, start_ticks=0, boot_id=processes.boot_id())
                _write(folder / SPAWNED_FILE, started)
        finally:
            os.close(lock)

    def _spawn(self, order: RunOrder, folder: Path, lock: int) -> subprocess.Popen[bytes]:
        archive = bundle.install(self._home.agent)
        options = self._options
        argv = [options.python, "-I", "-S", str(archive), str(folder), f"--lock-handle={lock}"]
        argv += [f"--claim-for-s={options.claim_for_s}", f"--beat-s={options.beat_s}", f"--tell-for-s={options.tell_for_s}"]
        argv += [f"--log-limit-bytes={options.log_limit_bytes}"]
        # The marks of the attempt are in the agent's own environment, so that also a child between fork and exec carries them.
        marks = {ENV_ATTEMPT: str(order.attempt), ENV_ATTEMPT_DIR: str(folder)}
        with open(folder / LOG_FOLDER / AGENT_LOG, "ab") as log:
            process = subprocess.Popen(
                argv,
                cwd=folder,
                env={**self._environment, **marks},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
            )
        # Somebody has to take its exit code, or it stays as a zombie for as long as the control process lives.
        threading.Thread(target=process.wait, name=f"agent-{process.pid}", daemon=True).start()
        return process

    def _close_unstarted(self, attempt: AttemptRef, folder: Path) -> bool:
        """End an attempt whose agent was never started, so that no late start can begin it; False if one was started."""
        if _was_started(folder):
            return (folder / EXIT_FILE).exists() and agent_process(folder) is None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = try_lock(folder / AGENT_LOCK)
        self._known.add(attempt)
        if lock is None:
            return False
        try:
            if _was_started(folder):
                return False
            note = ExitNote(reason=ReleaseReason.STOPPED, detail="stopped before its agent was started")
            _write(folder / EXIT_FILE, RunReport(attempt=attempt, sequence=1, kind=ReportKind.EXITED, at=self._now(), exit=note))
            return True
        finally:
            os.close(lock)

    def _ask(self, folder: Path, request: StandingRequest) -> None:
        _write(folder / REQUEST_FILE, request)
        if (folder / AGENT_FILE).exists():  # an agent that has not written its name does not listen to signals yet
            agent = agent_process(folder)
            if agent is not None:
                with contextlib.suppress(PermissionError):
                    processes.send(agent, signal.SIGUSR1)


def _was_started(folder: Path) -> bool:
    """Whether an agent was started, or the attempt closed without one."""
    return any((folder / name).exists() for name in (AGENT_FILE, SPAWNED_FILE, EXIT_FILE))


def _write(path: Path, value: object) -> None:
    write_atomically(path, json.dumps(wire.encode(value), sort_keys=True, indent=1).encode() + b"\n")
