"""The life of an agent: say who it is, claim, start the ranks, watch them, leave the exit file, tell, go."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from trimtab import wire
from trimtab.attempt_files import AGENT_LOCK, FAMILY_LOCK, AgentRecord, rank_log
from trimtab.files import try_lock
from trimtab.ids import AttemptRef
from trimtab.jobspec import JobKind
from trimtab.lifecycle import FailureKind, ReleaseReason
from trimtab.orders import ClaimReply, ClaimRequest, ClaimVerdict, ExitNote, ReportKind, RunOrder, RunReport
from workers.agent.client import GatewayAway, GatewayClient, GatewayRefusal
from workers.agent.environment import Rendezvous, places, rank_environment
from workers.agent.folder import AttemptFolder
from workers.agent.logs import RankLog
from workers.agent.ranks import Rank, RankProgram, StartFailure, become_subreaper, free_port, start_rank
from workers.agent.reporter import Reporter
from workers.agent.signals import Signals
from workers.agent.supervisor import Supervisor

EXIT_DONE, EXIT_NOT_OURS, EXIT_BAD_ORDER = 0, 3, 4
"""Exit codes of the agent itself; how the attempt ended stands in its exit file."""
_LONGEST_CLAIM_DELAY_S = 5.0
_jitter = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the executor may set: how long to try a claim, how often to report, how long to try the last report, the log limit."""

    claim_for_s: float = 600.0
    beat_s: float = 1.0
    tell_for_s: float = 15.0
    log_limit_bytes: int = 256 << 20


def main(argv: Sequence[str]) -> int:
    """Run the agent of the attempt whose folder is named; returns the exit code."""
    folder, lock_handle, options = _parse(argv)
    signals = Signals()
    attempt = _attempt_of(folder)
    if attempt is None:
        return EXIT_BAD_ORDER
    lock = _own_lock(folder, lock_handle)
    if lock is None:
        _log(f"another agent of {attempt} lives: this one ends")
        return EXIT_NOT_OURS
    os.set_inheritable(lock, False)
    record = folder.record_agent(attempt)
    if folder.has_exit():
        _log(f"{attempt} has already ended: nothing is started")
        return EXIT_NOT_OURS
    try:
        order = folder.read_order()
        client = GatewayClient(address=order.address, credential=order.credential)
        places_of_ranks = places(order)
        if not places_of_ranks or not order.argv:
            raise ValueError("the order has no rank or no program")
    except (OSError, ValueError) as error:  # a WireError is a ValueError
        note = ExitNote(reason=ReleaseReason.FAILED, failure=FailureKind.START, detail=f"the order cannot be read: {error}")
        _record_exit(folder, _exit_report(attempt, note))
        _log(note.detail)
        return EXIT_BAD_ORDER
    become_subreaper()
    refused = _claim(client, record, folder=folder, signals=signals, options=options)
    if refused is not None:
        _log(refused.detail)
        _record_exit(folder, _exit_report(attempt, refused))
        return EXIT_DONE
    return _run(order, client, folder=folder, signals=signals, options=options)


def _parse(argv: Sequence[str]) -> tuple[AttemptFolder, int | None, Options]:
    defaults = Options()
    parser = argparse.ArgumentParser(prog="trimtab-agent", description="Runs the ranks of one attempt on this node.")
    parser.add_argument("folder", type=Path, help="the attempt's folder, with order.json")
    parser.add_argument("--lock-handle", type=int, help="inherited descriptor that holds agent.lock")
    parser.add_argument("--claim-for-s", type=float, default=defaults.claim_for_s)
    parser.add_argument("--beat-s", type=float, default=defaults.beat_s)
    parser.add_argument("--tell-for-s", type=float, default=defaults.tell_for_s)
    parser.add_argument("--log-limit-bytes", type=int, default=defaults.log_limit_bytes)
    args = parser.parse_args(argv)
    options = Options(
        claim_for_s=args.claim_for_s, beat_s=args.beat_s, tell_for_s=args.tell_for_s, log_limit_bytes=args.log_limit_bytes
    )
    return AttemptFolder(args.folder), args.lock_handle, options


def _attempt_of(folder: AttemptFolder) -> AttemptRef | None:
    """The attempt named in the order, read loosely: it must be known also where the rest of the order is wrong."""
    try:
        document = json.loads((folder.path / "order.json").read_bytes())
        return wire.decode(AttemptRef, document["attempt"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log(f"no order can be read in {folder.path}: {type(error).__name__}: {error}")
        return None


def _own_lock(folder: AttemptFolder, handle: int | None) -> int | None:
    """The lock that proves this agent's life: inherited from the executor, or taken by an agent that was started by hand."""
    path = folder.path / AGENT_LOCK
    if handle is None:
        return try_lock(path)
    if not os.path.samestat(os.fstat(handle), path.stat()):
        raise ValueError(f"descriptor {handle} is not {path}")
    return handle


def _claim(
    client: GatewayClient, record: AgentRecord, *, folder: AttemptFolder, signals: Signals, options: Options
) -> ExitNote | None:
    """Ask until there is an answer; None when granted, else how the attempt ends. Nothing was started yet."""
    request = ClaimRequest(attempt=record.attempt, agent=record.label())
    give_up_at_s = time.monotonic() + options.claim_for_s
    delay_s = 0.2
    while True:
        if signals.take_terminate() or _stop_requested(folder):
            return ExitNote(reason=ReleaseReason.STOPPED, detail="asked to stop before anything was started")
        try:
            reply = client.claim(request)
        except GatewayRefusal as refusal:
            reply = ClaimReply(verdict=ClaimVerdict.REFUSED, detail=str(refusal))
        except GatewayAway as error:
            if time.monotonic() > give_up_at_s:
                detail = f"no answer to the claim for {options.claim_for_s:.0f} s ({error}); nothing was started"
                return ExitNote(reason=ReleaseReason.FAILED, failure=FailureKind.START, detail=detail)
            select.select([signals.wake_handle], [], [], delay_s * _jitter.uniform(0.5, 1.0))
            signals.drain()
            delay_s = min(_LONGEST_CLAIM_DELAY_S, delay_s * 2)
            continue
        if reply.verdict is ClaimVerdict.GRANTED:
            return None
        detail = f"the claim was refused ({reply.detail}); nothing was started"
        return ExitNote(reason=ReleaseReason.STOPPED, failure=FailureKind.START, detail=detail)


def _stop_requested(folder: AttemptFolder) -> bool:
    try:
        request = folder.new_request()
    except (OSError, ValueError) as error:
        _log(f"a request of the executor cannot be read: {error}")
        return False
    return request is not None and request.stop_by_s is not None


def _run(order: RunOrder, client: GatewayClient, *, folder: AttemptFolder, signals: Signals, options: Options) -> int:
    reporter = Reporter(client, order.attempt, beat_s=options.beat_s, wake=signals.wake, log=_log)
    ranks: list[Rank] = []
    supervisor = Supervisor(order, ranks, folder=folder, reporter=reporter, signals=signals, log=_log)
    try:
        # Ranks first, threads after: what runs between fork and exec must find a process of one thread.
        _start_ranks(order, ranks, folder=folder, options=options)
        reporter.start()
        note = supervisor.run()
    except StartFailure as failure:
        note = ExitNote(reason=ReleaseReason.FAILED, failure=FailureKind.START, rank=failure.rank, detail=str(failure))
        reporter.start()
    except Exception as error:
        # A fault of the agent must not leave ranks behind nor the control plane without a reason.
        _log(f"fault of the agent: {type(error).__name__}: {error}")
        note = ExitNote(reason=ReleaseReason.FAILED, failure=FailureKind.LOST, detail=f"fault of the agent: {error!r}")
        supervisor.close()
        _record_exit(folder, reporter.finish(note, supervisor.summary))
        raise
    supervisor.close()
    _record_exit(folder, reporter.finish(note, supervisor.summary))
    _log(f"ended: {note.reason} {note.failure or ''} {note.detail}".rstrip())
    if not reporter.wait_until_told(options.tell_for_s):
        _log("the end could not be told; it stands in the exit file")
    return EXIT_DONE


def _start_ranks(order: RunOrder, ranks: list[Rank], *, folder: AttemptFolder, options: Options) -> None:
    """Start all ranks into ``ranks``; on a StartFailure those already there are the caller's to end."""
    all_places = places(order)
    try:
        family, meet, logs = _prepare(order, folder, options=options)
    except OSError as error:
        raise StartFailure(all_places[0].rank, f"the attempt's folder cannot be prepared: {error}") from error
    for place, log in zip(all_places, logs, strict=True):
        program = RankProgram(
            argv=order.argv,
            working_dir=order.working_dir,
            environment=rank_environment(os.environ, order, place, num_ranks=len(all_places), meet=meet),
            place=place,
            takes_commands=order.spec.kind is JobKind.TRAIN and place is all_places[0],
            family_lock=family,
        )
        try:
            ranks.append(start_rank(program, log))
        except StartFailure as failure:
            log.write(f"{failure}\n".encode())
            for unused in logs[len(ranks) :]:
                unused.close()
            raise
        _log(f"rank {place.rank} is process {ranks[-1].process.pid}")


def _prepare(order: RunOrder, folder: AttemptFolder, *, options: Options) -> tuple[int, Rendezvous, list[RankLog]]:
    """The family lock, what every rank is told, and the logs. Raises OSError (a full disk, no rights)."""
    family = try_lock(folder.path / FAMILY_LOCK)
    assert family is not None, "only the agent, which holds its own lock, takes the family lock"
    order_file, plan_file = folder.write_for_ranks(order)
    meet = Rendezvous(
        address="127.0.0.1",
        port=free_port(),
        kernel_path=folder.unpack_kernel(),
        order_file=order_file,
        plan_file=plan_file,
    )
    folder.logs.mkdir(mode=0o700, exist_ok=True)
    paths = [folder.logs / rank_log(place.rank) for place in places(order)]
    return family, meet, [RankLog(path, limit_bytes=options.log_limit_bytes) for path in paths]


def _record_exit(folder: AttemptFolder, report: RunReport) -> None:
    """Leave the exit file; a full disk must not keep the end from being told."""
    try:
        folder.record_exit(report)
    except OSError as error:
        _log(f"the exit file cannot be written: {error}")


def _exit_report(attempt: AttemptRef, note: ExitNote) -> RunReport:
    """The exit report of an agent that reported nothing else."""
    return RunReport(attempt=attempt, sequence=1, kind=ReportKind.EXITED, at=datetime.now(UTC), exit=note)


def _log(message: str) -> None:
    """One line of the agent's own log."""
    with contextlib.suppress(OSError):  # a full disk must not end a run
        print(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {message}", file=sys.stderr, flush=True)
