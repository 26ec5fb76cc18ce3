"""Starting the ranks of an attempt so that they die with their agent, and ending whatever they left."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab import processes
from trimtab.orders import ENV_CONTROL_FD, ENV_REPORT_FD
from workers.agent.environment import RankPlace
from workers.agent.lines import CommandWriter, MessageReader
from workers.agent.logs import RankLog

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PIPE_BYTES = 1 << 20
_OOM_SCORE = b"500"  # the ranks hold the memory: the kernel should take one of them before an agent or the control process
_libc = ctypes.CDLL(None, use_errno=True)


class StartFailure(Exception):
    """A rank could not be started. ``str`` names the program, the folder and the reason."""

    def __init__(self, rank: int, message: str) -> None:
        self.rank = rank
        super().__init__(message)


@dataclass(slots=True)
class Rank:
    """One started rank. ``output`` is the agent's end of its stdout and stderr, None once it is at its end."""

    number: int
    process: subprocess.Popen[bytes]
    log: RankLog
    output: int | None
    messages: MessageReader
    commands: CommandWriter | None = None
    exit_code: int | None = None
    killed: bool = False
    ready: bool = False
    num_bad_lines: int = 0

    def signal_family(self, number: signal.Signals) -> None:
        """Send a signal to the rank and what it started in its own process group."""
        if self.exit_code is not None:  # its number may be somebody else's by now; what it left is found as a descendant
            return
        self.killed |= number is signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        """Close what the agent holds of it."""
        if self.output is not None:
            os.close(self.output)
            self.output = None
        self.messages.close()
        if self.commands is not None:
            self.commands.close()
        self.log.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class RankProgram:
    """What to start as one rank. ``family_lock`` is inherited, so that whatever the rank leaves running can be found."""

    argv: tuple[str, ...]
    working_dir: str
    environment: Mapping[str, str]
    place: RankPlace
    takes_commands: bool
    family_lock: int


def become_subreaper() -> None:
    """Orphans below this process become its children, so that none can leave the tree by the death of its parent."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def free_port() -> int:
    """A port of the loopback interface that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_rank(program: RankProgram, log: RankLog) -> Rank:
    """Start one rank. Must run on the main thread: the kernel sends the death signal when the thread that forked ends.

    Raises StartFailure where the program or its folder does not exist or may not be run.
    """
    output, output_theirs = os.pipe()
    report, report_theirs = os.pipe()
    theirs = [output_theirs, report_theirs]
    environment = {**program.environment, ENV_REPORT_FD: str(report_theirs)}
    commands: int | None = None
    if program.takes_commands:
        commands_theirs, commands = os.pipe()
        theirs.append(commands_theirs)
        environment[ENV_CONTROL_FD] = str(commands_theirs)
    with contextlib.suppress(OSError):  # a larger pipe is fewer wake-ups, no more
        fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    try:
        process = subprocess.Popen(
            program.argv,
            cwd=program.working_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output_theirs,
            stderr=output_theirs,
            pass_fds=(*theirs[1:], program.family_lock),
            process_group=0,
            preexec_fn=_in_child(os.getpid(), program.place.cores),
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        for handle in (output, report, *([] if commands is None else [commands])):
            os.close(handle)
        raise StartFailure(program.place.rank, _start_failure(program, error)) from error
    finally:
        for handle in theirs:
            os.close(handle)
    os.set_blocking(output, False)
    return Rank(
        number=program.place.rank,
        process=process,
        log=log,
        output=output,
        messages=MessageReader(report),
        commands=None if commands is None else CommandWriter(commands),
    )


def _in_child(agent_pid: int, cores: Sequence[int]) -> Callable[[], None]:
    """What runs between fork and exec. The agent has one thread then, so no lock can be held by another."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != agent_pid:  # the agent died before the line above took effect
            os._exit(1)
        allowed = os.sched_getaffinity(0) & set(cores)
        if allowed:
            os.sched_setaffinity(0, allowed)
        with contextlib.suppress(OSError):
            handle = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(handle, _OOM_SCORE)
            os.close(handle)

    return prepare


def _start_failure(program: RankProgram, error: Exception) -> str:
    if not Path(program.working_dir).is_dir():
        return f"rank {program.place.rank}: the working folder {program.working_dir} does not exist on this machine"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"rank {program.place.rank}: cannot start {program.argv[0]!r} in {program.working_dir}: {reason}"


def end_descendants(*, limit_s: float = 10.0) -> Sequence[int]:
    """Kill everything below this process; the ids that are still there after ``limit_s`` (waiting in the kernel).

    Every process below a subreaper stays below it, also one that changed its session or cleared its environment.
    """
    end_at_s = time.monotonic() + limit_s
    while True:
        collect_orphans(())
        left = processes.descendants(os.getpid())
        if not left or time.monotonic() > end_at_s:
            return [identity.pid for identity in left]
        for identity in left:
            with contextlib.suppress(PermissionError):  # a program with another user's rights: told by the caller
                processes.send(identity, signal.SIGKILL)
        time.sleep(0.01)


def collect_orphans(known: Sequence[int]) -> None:
    """Take the exit codes of ended children that are not ``known`` ranks, so that they do not stay as zombies."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in known:
            return
        os.waitpid(ended.si_pid, os.WNOHANG)
