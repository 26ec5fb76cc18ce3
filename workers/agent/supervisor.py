"""The agent's main loop: one thread over the pipes of the ranks, their exits, signals, and what the control plane asks."""

from __future__ import annotations

import contextlib
import functools
import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from trimtab import processes
from trimtab.attempt_files import StandingRequest
from trimtab.jobspec import JobKind
from trimtab.orders import (
    EXIT_STOPPED,
    ExitNote,
    RankCommand,
    RankCommandKind,
    RankMessage,
    RankMessageKind,
    ReportKind,
    RunOrder,
)
from workers.agent.folder import AttemptFolder
from workers.agent.lines import BadLine
from workers.agent.memory import OomWatch
from workers.agent.ranks import Rank, collect_orphans, end_descendants
from workers.agent.reporter import Reporter
from workers.agent.signals import Signals
from workers.agent.verdict import Ending, RankExit, describe, judge

_TICK_S = 0.25
_READ_BYTES = 1 << 18
_FULL_LOG_BYTES_PER_TICK = 16 << 20  # a flood into a full log is read no faster, so that it cannot use up a core of the machine
_CHECKPOINT_AGAIN_S = 60.0
_MAX_BAD_LINES = 20  # told of each rank; a flood of them must not fill the agent's own log
_AFTER_FAILURE_S, _AFTER_TERMINATE_S = 3.0, 3.0  # for the other ranks to say what they saw, then to end on SIGTERM
_LEFTOVER_S = 2.0  # for helpers that clean up behind a rank, such as the one that frees shared memory


class Supervisor:
    """Watches started ranks until none is left, and says how it ended."""

    def __init__(
        self,
        order: RunOrder,
        ranks: Sequence[Rank],
        *,
        folder: AttemptFolder,
        reporter: Reporter,
        signals: Signals,
        log: Callable[[str], None],
    ) -> None:
        self._order = order
        self._ranks = ranks
        self._folder = folder
        self._reporter = reporter
        self._signals = signals
        self._log = log
        self._ours = order.spec.kind is JobKind.TRAIN
        self._selector = selectors.DefaultSelector()
        self._oom = OomWatch()
        self._stop_by_s: float | None = None
        self._fenced = False
        self._ready = False
        self._stalled_s: float | None = None
        self._first_failed: RankExit | None = None
        self._terminate_at_s: float | None = None
        self._kill_at_s: float | None = None
        self._moved_at_s = time.monotonic()
        self._num_checkpoints_asked = 0
        self._checkpoint_asked_at_s: float | None = None
        self._window_bytes: dict[int, int] = {}
        self._window_begun_s = 0.0
        self.summary: Mapping[str, float] = {}

    def run(self) -> ExitNote:
        """Until every rank and every process that they left is gone."""
        self._selector.register(self._signals.wake_handle, selectors.EVENT_READ, self._signals.drain)
        for rank in self._ranks:
            self._listen(rank)
        if not self._ours:
            self._become_ready()
        while any(rank.exit_code is None for rank in self._ranks):
            self._turn(_TICK_S)
        self._end_leftovers()
        self._drain()
        return self._verdict()

    def close(self) -> None:
        """Kill what runs and release everything; also the way out after an error of the supervisor itself."""
        for rank in self._ranks:
            rank.signal_family(signal.SIGKILL)
        end_descendants()
        for rank in self._ranks:
            rank.process.poll()
            rank.close()
        self._selector.close()

    # ------------------------------------------------------------------------------------------------------------- one turn

    def _turn(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            key.data()
        self._collect()
        self._heed()
        self._enforce()
        if time.monotonic() - self._window_begun_s >= _TICK_S:
            self._open_window()

    def _open_window(self) -> None:
        """Read again from ranks that had used up what a full log takes in one tick."""
        self._window_begun_s = time.monotonic()
        self._window_bytes.clear()
        for rank in self._ranks:
            if rank.output is not None and rank.output not in self._selector.get_map():
                self._selector.register(rank.output, selectors.EVENT_READ, functools.partial(self._pump, rank))

    def _listen(self, rank: Rank) -> None:
        assert rank.output is not None, "a rank has its output when it starts"
        self._selector.register(rank.output, selectors.EVENT_READ, functools.partial(self._pump, rank))
        self._selector.register(rank.messages.handle, selectors.EVENT_READ, functools.partial(self._hear, rank))

    def _pump(self, rank: Rank) -> bool:
        """Move output to the log; False when there was none."""
        if rank.output is None:
            return False
        try:
            data = os.read(rank.output, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._pause(rank.output)
            os.close(rank.output)
            rank.output = None
            return False
        rank.log.write(data)
        if rank.log.full:
            read = self._window_bytes[rank.number] = self._window_bytes.get(rank.number, 0) + len(data)
            if read > _FULL_LOG_BYTES_PER_TICK:
                self._pause(rank.output)
        return True

    def _pause(self, handle: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(handle)

    def _hear(self, rank: Rank) -> None:
        for message in rank.messages.read():
            if isinstance(message, BadLine):
                rank.num_bad_lines += 1
                if rank.num_bad_lines <= _MAX_BAD_LINES:
                    self._log(f"rank {rank.number} sent no message: {message}")
            elif message.kind is RankMessageKind.READY:
                rank.ready = True
                self._moved_at_s = time.monotonic()
                if not self._ready and all(rank.ready for rank in self._ranks):
                    self._become_ready()
            elif rank.number == self._ranks[0].number:
                self._moved_at_s = time.monotonic()
                self._take(message)
        if rank.messages.ended:
            self._pause(rank.messages.handle)

    def _take(self, message: RankMessage) -> None:
        if message.kind is RankMessageKind.PROGRESS and message.progress is not None:
            self._reporter.progress(message.progress)
        elif message.kind is RankMessageKind.CHECKPOINT and message.checkpoint is not None:
            self._checkpoint_asked_at_s = None
            try:
                self._folder.record_checkpoint(message.checkpoint)
            except OSError as error:
                self._log(f"the note of a checkpoint cannot be kept here, it is published all the same: {error}")
            self._reporter.publish(message.checkpoint)
        elif message.kind is RankMessageKind.SUMMARY:
            self.summary = message.summary
            self._reporter.tell(ReportKind.SUMMARY, summary=message.summary)

    def _become_ready(self) -> None:
        self._ready = True
        self._reporter.tell(ReportKind.READY)

    def _collect(self) -> None:
        ended = []
        for rank in self._ranks:
            if rank.exit_code is None and rank.process.poll() is not None:
                rank.exit_code = rank.process.returncode
                ended.append(rank)
        collect_orphans([rank.process.pid for rank in self._ranks if rank.exit_code is None])
        for rank in ended:
            self._log(describe(self._exit_of(rank)))
        if self._ours and any(rank.exit_code == EXIT_STOPPED for rank in ended):
            self._stop(time.monotonic() + self._order.grace_s)  # the gang stops as one
        failed = [rank for rank in ended if rank.exit_code not in (0, EXIT_STOPPED if self._ours else 0)]
        if failed and self._first_failed is None and self._stop_by_s is None and not self._fenced:
            # Several at once: one that was killed is the cause, the others only lost their peer.
            first = min(failed, key=lambda rank: (rank.exit_code or 0) > 0)
            self._pump_rest(first)
            self._first_failed = self._exit_of(first)
            self._terminate_at_s = time.monotonic() + _AFTER_FAILURE_S
            self._kill_at_s = self._terminate_at_s + _AFTER_TERMINATE_S

    def _heed(self) -> None:
        """What was asked by file, by signal, by the gateway's replies."""
        request = self._new_request()
        if request is not None:
            if request.stop_by_s is not None:
                self._stop(request.stop_by_s)
            if request.num_checkpoints > self._num_checkpoints_asked:
                self._num_checkpoints_asked = request.num_checkpoints
                self._ask_checkpoint()
        if self._signals.take_terminate():
            self._stop(time.monotonic() + self._order.grace_s)
        asked = self._reporter.asked()
        for answer in asked.published:
            self._command(RankCommand(kind=RankCommandKind.PUBLISHED, step=answer.step, accepted=answer.accepted))
        if asked.fenced and not self._fenced:
            self._log("fenced: another attempt is the current one, or this one is no longer wanted")
            self._fenced = True
            self._signal_all(signal.SIGKILL)
        if asked.stop_grace_s is not None and (self._stop_by_s is None or asked.stop_grace_s <= 0):
            self._stop(time.monotonic() + asked.stop_grace_s)
        if asked.checkpoint:
            self._ask_checkpoint()

    def _new_request(self) -> StandingRequest | None:
        try:
            return self._folder.new_request()
        except (OSError, ValueError) as error:
            self._log(f"a request of the executor cannot be read, the run goes on: {error}")
            return None

    def _enforce(self) -> None:
        now_s = time.monotonic()
        self._oom.sample()
        if self._ours and self._stop_by_s is None and now_s - self._moved_at_s > self._order.stall_after_s:
            self._stalled_s = now_s - self._moved_at_s
            self._log(f"no sign of progress for {self._stalled_s:.0f} s: all ranks are killed")
            self._moved_at_s = now_s
            self._signal_all(signal.SIGKILL)
        if self._stop_by_s is not None and now_s >= self._stop_by_s:
            self._signal_all(signal.SIGKILL)
        if self._terminate_at_s is not None and now_s >= self._terminate_at_s:
            self._terminate_at_s = None
            self._signal_all(signal.SIGTERM)
        if self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._signal_all(signal.SIGKILL)
        if self._ranks[0].commands is not None:
            self._ranks[0].commands.flush()

    def _stop(self, by_s: float) -> None:
        """Ask the ranks to stop; asked again, only the earlier time counts."""
        if self._stop_by_s is not None:
            self._stop_by_s = min(self._stop_by_s, by_s)
            return
        if all(rank.exit_code is not None for rank in self._ranks):
            return  # it has ended by itself
        self._stop_by_s = by_s
        grace_s = max(0.0, by_s - time.monotonic())
        self._log(f"asked to stop within {grace_s:.1f} s")
        if self._ours:
            self._command(RankCommand(kind=RankCommandKind.STOP, grace_s=grace_s))
        else:
            self._signal_all(signal.SIGTERM)

    def _ask_checkpoint(self) -> None:
        now_s = time.monotonic()
        waiting = self._checkpoint_asked_at_s is not None and now_s - self._checkpoint_asked_at_s < _CHECKPOINT_AGAIN_S
        if not waiting:
            self._checkpoint_asked_at_s = now_s
            self._command(RankCommand(kind=RankCommandKind.CHECKPOINT))

    def _command(self, command: RankCommand) -> None:
        if self._ranks[0].commands is not None:
            self._ranks[0].commands.write(command)

    def _signal_all(self, number: signal.Signals) -> None:
        for rank in self._ranks:
            rank.signal_family(number)

    # -------------------------------------------------------------------------------------------------------------- the end

    def _end_leftovers(self) -> None:
        """What the ranks left running gets the rest of the grace of a stop, else a moment, and is killed then."""
        families = {rank.process.pid for rank in self._ranks}
        end_at_s = max(time.monotonic() + _LEFTOVER_S, self._stop_by_s or 0.0)
        left = processes.descendants(os.getpid())
        for identity in left:
            if self._stop_by_s is not None and _family(identity.pid) not in families:
                with contextlib.suppress(PermissionError):
                    processes.send(identity, signal.SIGTERM)  # it left the process group that was told to stop
        while left and not self._fenced and time.monotonic() < end_at_s:
            self._turn(0.05)
            left = processes.descendants(os.getpid())
        if left:
            self._log(f"killing {len(left)} processes that the ranks left running")
        stubborn = end_descendants()
        if stubborn:
            self._log(f"could not end processes {stubborn}: they may hold devices until a person ends them")

    def _pump_rest(self, rank: Rank) -> None:
        """Take the output that an ended rank left in its pipe, a bounded amount: its last line belongs to its exit."""
        for _ in range(_FULL_LOG_BYTES_PER_TICK // _READ_BYTES):
            if not self._pump(rank):
                return

    def _drain(self) -> None:
        """After the last process is gone the pipes end; take what is still in them."""
        for rank in self._ranks:
            self._pump_rest(rank)
            rank.messages.idle = False
            while not (rank.messages.ended or rank.messages.idle):
                self._hear(rank)

    def _exit_of(self, rank: Rank) -> RankExit:
        assert rank.exit_code is not None, "only ended ranks are described"
        return RankExit(rank=rank.number, code=rank.exit_code, killed_by_agent=rank.killed, last_line=rank.log.last_line())

    def _verdict(self) -> ExitNote:
        return judge(
            Ending(
                kind=self._order.spec.kind,
                exits=tuple(self._exit_of(rank) for rank in self._ranks),
                first_failed=self._first_failed,
                stop_asked=self._stop_by_s is not None,
                fenced=self._fenced,
                stalled_s=self._stalled_s,
                num_oom_kills=self._oom.num_kills(),
            )
        )


def _family(pid: int) -> int | None:
    """The process group of a process; None if it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
