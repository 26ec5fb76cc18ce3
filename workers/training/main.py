"""The program of one rank of a training run: ``python -m workers.training.main``.

Started by the agent it finds everything in its environment (``trimtab.orders``); by hand it takes ``--order FILE --rank R
--world-size W``. Exit codes are those of ``trimtab.orders``; the last line of the log says in one sentence why a run failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch

from trimtab import wire
from trimtab.errors import CheckpointError, SpecError, TrimtabError
from trimtab.orders import (
    ENV_ORDER_FILE,
    EXIT_CHECKPOINT,
    EXIT_OUT_OF_MEMORY,
    EXIT_STOPPED,
    RankMessage,
    RankMessageKind,
    RunOrder,
)
from workers.data.build import build_data, cache_folder
from workers.training.agreement import Peers
from workers.training.checkpoint import CheckpointStore
from workers.training.distributed import RankInfo, initialise, leave
from workers.training.engine import Engine
from workers.training.figures import process_age_s
from workers.training.lineage import LINEAGE
from workers.training.loop import Ending, Setting, StopSignal, TrainingLoop
from workers.training.reports import CommandReader, LineLog, Reporter
from workers.training.resume import Expected, choose_together
from workers.training.shards import ShardReader
from workers.training.state import Progression, restore, spec_digest

EXIT_FAILED = 1
EXIT_USAGE = 2
SUMMARY_FILE = "summary.json"
_MEMORY_PHRASES = ("can't allocate memory", "out of memory", "Cannot allocate memory", "DefaultCPUAllocator: not enough memory")


class RankLog:
    """Lines for a person on stdout: time, and the rank where it is not the first. Errors go through whatever the rank."""

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def __call__(self, line: str) -> None:
        """Write a line, at rank 0 alone."""
        if self._rank == 0:
            self.always(line)

    def always(self, line: str) -> None:
        """Write a line at any rank."""
        print(f"{time.strftime('%H:%M:%S')} rank {self._rank}: {line}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run this rank to its end; the exit code."""
    order = _read_order(_parse(arguments))
    rank = int(os.environ["RANK"])
    log = RankLog(rank)
    stop_signal = StopSignal()
    stop_signal.install()
    try:
        info = initialise(order)
        ending = _train(order, info, stop_signal, log)
    except BaseException as error:  # every way to fail must become an exit code, at once: peers are waiting
        _fail(error, log)
    leave()
    return EXIT_STOPPED if ending is Ending.STOPPED else 0


def _train(order: RunOrder, info: RankInfo, stop_signal: StopSignal, log: RankLog) -> Ending:
    reporter = Reporter.from_environment(os.environ, log.always)
    setting, progression = _prepare(order, info, reporter, log)
    reporter.send(RankMessage(kind=RankMessageKind.READY))
    loop = TrainingLoop(setting, progression, stop_signal)
    age_s = process_age_s()
    if age_s is not None:
        loop.figures["prepare_s"] = age_s
        log(f"ready after {age_s:.1f} s")
    ending = loop.run()
    if setting.peers.first and ending is Ending.COMPLETED:
        _write_summary(order, loop)
        reporter.send(RankMessage(kind=RankMessageKind.SUMMARY, summary=loop.figures))
        log("finished: " + ", ".join(f"{name} {value:.6g}" for name, value in sorted(loop.figures.items())))
    setting.peers.wait()
    return ending


def _prepare(order: RunOrder, info: RankInfo, reporter: Reporter, log: RankLog) -> tuple[Setting, Progression]:
    spec, strategy = order.spec, order.strategy
    if spec.model is None or spec.train is None or strategy is None:
        raise TrimtabError(f"attempt {order.attempt} is no training run: its order has no model, workload or strategy")
    peers = Peers(rank=info.rank, world_size=info.world_size)
    train = spec.train
    log(f"attempt {order.attempt}: {spec.model.name}, {strategy.label()}, {info.world_size} ranks on {info.device}")
    data = build_data(spec.model, train, cache_folder(order.checkpoint_dir))
    _check_same_data(peers, data.digest)
    log("data: " + ", ".join(f"{name} {value}" for name, value in data.facts.items()))
    engine = Engine.build(model=spec.model, train=train, strategy=strategy, device=info.device)
    progression = Progression.start(data, global_batch=train.global_batch, seed=train.seed)
    setting = Setting(
        order=order,
        model=spec.model,
        train=train,
        strategy=strategy,
        policy=spec.checkpoint,
        engine=engine,
        data=data,
        peers=peers,
        store=CheckpointStore(
            checkpoint_dir=Path(order.checkpoint_dir), attempt=order.attempt, peers=peers, keep=spec.checkpoint.keep, log=log
        ),
        reporter=reporter,
        commands=CommandReader.from_environment(os.environ if peers.first else {}, log),
        data_digest=data.digest,
        spec_digest=spec_digest(spec),
        log=log,
    )
    _resume(setting, progression)
    return setting, progression


def _resume(setting: Setting, progression: Progression) -> None:
    order, peers = setting.order, setting.peers
    folder = Path(order.checkpoint_dir)
    if peers.first:
        folder.mkdir(parents=True, exist_ok=True)
        Path(order.attempt_dir).mkdir(parents=True, exist_ok=True)
    if order.resume_from is not None:
        expected = Expected(data_digest=setting.data_digest, spec_digest=setting.spec_digest)
        chosen, manifest = choose_together(order.resume_from, folder, expected, peers=peers, log=setting.log)
        restore(ShardReader(chosen, manifest), manifest, engine=setting.engine, progression=progression, rank=peers.rank)
        setting.log(f"resumed from step {progression.step}: {chosen}")
    if peers.first:
        LineLog(folder / LINEAGE, setting.log).append(
            {
                "attempt": order.attempt.number,
                "attempt_dir": str(Path(order.attempt_dir).resolve()),
                "resumed_step": progression.step,
                "strategy": setting.strategy.label(),
                "world_size": peers.world_size,
            }
        )
    peers.wait()


def _check_same_data(peers: Peers, digest: str) -> None:
    """Ranks on different machines may have different files under the same names."""
    digests = peers.gather_texts(digest)
    others = [rank for rank, other in enumerate(digests) if other != digests[0]]
    if others:
        raise TrimtabError(f"ranks {others} read other training data than rank 0; is the same Python installed on every node?")


def _write_summary(order: RunOrder, loop: TrainingLoop) -> None:
    document = {"loss_digest": loop.progression.loss_digest, "data_digest": loop.setting.data_digest, "figures": loop.figures}
    path = Path(order.attempt_dir) / SUMMARY_FILE
    try:
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        loop.setting.log(f"warning: {path} cannot be written ({error.strerror})")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.training.main", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--order", help=f"file with the RunOrder as JSON (default: {ENV_ORDER_FILE})")
    parser.add_argument("--rank", type=int, help="rank of this process (default: RANK, else 0)")
    parser.add_argument("--world-size", type=int, help="number of ranks, all on this machine (default: WORLD_SIZE, else 1)")
    return parser.parse_args(arguments)


def _read_order(options: argparse.Namespace) -> RunOrder:
    if options.rank is not None:
        os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(options.rank)
    if options.world_size is not None:
        os.environ["WORLD_SIZE"] = os.environ["LOCAL_WORLD_SIZE"] = str(options.world_size)
    os.environ.setdefault("RANK", "0")
    os.environ.setdefault("WORLD_SIZE", "1")
    path = options.order or os.environ.get(ENV_ORDER_FILE)
    if not path:
        print(f"no order: give --order FILE or set {ENV_ORDER_FILE}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
    try:
        return wire.loads(RunOrder, Path(path).read_bytes())
    except (OSError, ValueError) as error:
        print(f"{path}: not a readable order: {error}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from error


def _fail(error: BaseException, log: RankLog) -> NoReturn:
    """Say why and leave without waiting for peers, whose own errors follow from this one."""
    code = EXIT_FAILED
    if is_out_of_memory(error):
        code = EXIT_OUT_OF_MEMORY
    elif isinstance(error, CheckpointError):
        code = EXIT_CHECKPOINT
    if not isinstance(error, SpecError | CheckpointError):
        print("".join(traceback.format_exception(error)), flush=True)
    text = " ".join(str(error).split()) or type(error).__name__
    log.always(f"{type(error).__name__}: {text}")
    sys.stderr.flush()
    os._exit(code)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether host or device memory ran out: torch says so in words alone for the host, and its pipeline in the cause alone."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if error.__cause__ is not None and is_out_of_memory(error.__cause__):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _MEMORY_PHRASES)


if __name__ == "__main__":
    raise SystemExit(main())
