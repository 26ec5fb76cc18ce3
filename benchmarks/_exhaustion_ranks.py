"""One rank of ``memory_exhaustion.py``: takes a memory limit from the kernel, then runs the trainer's real engine under it.

The limit is RLIMIT_DATA, which counts private writable mappings (setrlimit(2)): what the process may still map is the limit less
what is resident when the engine is about to be built, after a tiny one was. So libraries and interpreter count with what they
hold, address space that is reserved but never touched does not, and an allocation beyond the limit fails in the allocator, as it
does without swap. The answer is one JSON line on standard output; the exit code is the trainer's own.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import resource
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks._random_batch import random_batch
from trimtab.inventory import DeviceKind
from trimtab.model import ModelSpec
from trimtab.orders import EXIT_OUT_OF_MEMORY
from trimtab.strategy import Strategy
from trimtab.wire import loads
from trimtab.workload import TrainWorkload
from workers.host_memory import M_TOP_PAD
from workers.training.distributed import join
from workers.training.engine import Engine
from workers.training.main import is_out_of_memory

NUM_STEPS = 2
"""The second step finds a heap that the first has cut up, and all of the optimizer's state."""
STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is to be run under which limit; ``measure_peak``: one more step without the limit, under torch's tracker."""

    model: ModelSpec
    train: TrainWorkload
    strategy: Strategy
    limit_bytes: int
    measure_peak: bool = False


def status_bytes(name: str) -> int:
    """A size of this process from the kernel: VmRSS, VmHWM (highest resident), VmData. Raises KeyError for another name."""
    for line in STATUS.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise KeyError(name)


def take_limit(limit_bytes: int) -> None:
    """Let this process map only what brings it from its resident bytes to ``limit_bytes``."""
    soft = max(0, status_bytes("VmData") + limit_bytes - status_bytes("VmRSS"))
    resource.setrlimit(resource.RLIMIT_DATA, (soft, resource.RLIM_INFINITY))


def lift_limit() -> None:
    """No limit again."""
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def run(trial: Trial, device: torch.device) -> dict[str, int]:
    """Build the engine and train under the limit. Raises what the allocator raises."""
    ctypes.CDLL(None).mallopt(M_TOP_PAD, 1 << 17)  # what a heap maps ahead is not resident, but the kernel would count it
    warm_up(trial, device)
    before = status_bytes("VmRSS")
    take_limit(trial.limit_bytes)
    engine = Engine.build(model=trial.model, train=trial.train, strategy=trial.strategy, device=device)
    batch = random_batch(trial.model, trial.train, trial.strategy)
    for _ in range(NUM_STEPS):
        engine.step(batch)
    answer = {"resident_before_bytes": before, "resident_peak_bytes": status_bytes("VmHWM")}
    lift_limit()
    if trial.measure_peak:
        engine.measured_step(batch)
        answer["peak_tensor_bytes"] = engine.peak_tensor_bytes()
    return answer


def warm_up(trial: Trial, device: torch.device) -> None:
    """A step of a tiny model: loads what torch imports when it is first used, whose file-backed pages RLIMIT_DATA cannot see.

    What is resident after it is the process beside its tensors.
    """
    stacks = tuple(replace(stack, num_layers=trial.strategy.pp) for stack in trial.model.stacks)
    tiny = replace(
        trial,
        model=replace(trial.model, stacks=stacks, vocab_size=256),
        train=replace(trial.train, sequence_length=16, global_batch=replace(trial.strategy, micro_batch=1).global_batch),
        strategy=replace(trial.strategy, micro_batch=1),
    )
    engine = Engine.build(model=tiny.model, train=tiny.train, strategy=tiny.strategy, device=device)
    engine.step(random_batch(tiny.model, tiny.train, tiny.strategy))
    del engine
    gc.collect()
    if dist.is_initialized():
        dist.barrier()


def main() -> None:
    """Run one trial; end as the trainer does, without waiting for peers where memory ran out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trial", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    options = parser.parse_args()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # torch's own prints must not mix with the answer
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    info = join(rank=rank, local_rank=rank, world_size=world_size, kind=DeviceKind.CPU, store_path=options.store)
    code = 0
    try:
        answer: dict[str, object] = dict(run(loads(Trial, options.trial.read_text()), info.device))
    except BaseException as error:
        lift_limit()  # or there is no memory to say what happened
        code = EXIT_OUT_OF_MEMORY if is_out_of_memory(error) else 1
        answer = {"error": f"{type(error).__name__}: {error}"[:400], "resident_peak_bytes": status_bytes("VmHWM")}
        if code == 1:
            traceback.print_exc()
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
