"""Starts the ranks of a probe and reads what they time."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trimtab.inventory import DeviceKind, ProbeKernel

TAIL_LINES = 20
STOP_GRACE_S = 5.0

SampleKey = tuple[ProbeKernel, str, tuple[int, ...], int]
"""(kernel, precision, shape, ranks at once)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Seconds of the runs that one rank made of a point in one pass."""

    rank: int
    seconds: tuple[float, ...]


Samples = dict[SampleKey, list[Window]]
"""All windows of each point; those of one rank in the order of the passes."""


class ProbeError(RuntimeError):
    """A rank failed. ``str`` holds the end of what it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlace:
    """Where one rank runs: its cores, or the visible name of its GPU."""

    kind: DeviceKind
    cores: tuple[int, ...] = ()
    gpu: str = ""


def run_ranks(places: Sequence[RankPlace], *, quick: bool, on_progress: Callable[[float], None]) -> Samples:
    """Run one process per place until all have ended; samples of all ranks by point.

    Raises ProbeError with the failing rank's last lines; no process is left behind either way.
    """
    with tempfile.TemporaryDirectory(prefix="trimtab-probe-") as folder:
        children = [_start(rank, places, Path(folder), quick=quick) for rank in range(len(places))]
        try:
            return _collect(children, Path(folder), on_progress)
        finally:
            _stop(children)


def _start(rank: int, places: Sequence[RankPlace], folder: Path, *, quick: bool) -> subprocess.Popen[str]:
    place = places[rank]
    environment = dict(os.environ)
    environment |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(len(places)),
        "LOCAL_WORLD_SIZE": str(len(places)),
        "PYTHONUNBUFFERED": "1",
    }
    if place.kind is DeviceKind.GPU:
        environment["CUDA_VISIBLE_DEVICES"] = place.gpu
    else:
        environment["CUDA_VISIBLE_DEVICES"] = ""
        environment["OMP_NUM_THREADS"] = str(max(1, len(place.cores)))
    command = [sys.executable, "-m", "workers.probe.rank", "--kind", str(place.kind)]
    command += ["--store", str(folder / "store"), "--started-at", repr(time.time())]
    if quick:
        command.append("--quick")
    with (folder / f"rank-{rank}.err").open("w") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True, bufsize=1)
    if place.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(child.pid, place.cores)  # before torch is imported, so that its threads inherit it
    return child


def _collect(children: Sequence[subprocess.Popen[str]], folder: Path, on_progress: Callable[[float], None]) -> Samples:
    samples: Samples = {}
    with selectors.DefaultSelector() as selector:
        for rank, child in enumerate(children):
            selector.register(_out(child), selectors.EVENT_READ, rank)
        while selector.get_map():
            for key, _ in selector.select():
                line = _out(children[key.data]).readline()
                if not line:
                    selector.unregister(key.fileobj)
                    _check(children[key.data], key.data, folder)
                    continue
                _take(json.loads(line), key.data, samples, on_progress)
    return samples


def _take(line: dict[str, object], rank: int, samples: Samples, on_progress: Callable[[float], None]) -> None:
    match line:
        case {"share": float() | int() as share}:
            on_progress(float(share))
        case {
            "kernel": str(kernel),
            "precision": str(precision),
            "shape": list(shape),
            "num_ranks": int(count),
            "seconds": list(seconds),
        }:
            key = (ProbeKernel(kernel), precision, tuple(int(size) for size in shape), count)
            samples.setdefault(key, []).append(Window(rank=rank, seconds=tuple(float(value) for value in seconds)))
        case _:
            raise ProbeError(f"a rank wrote a line that the probe does not know: {line}")


def _out(child: subprocess.Popen[str]) -> IO[str]:
    assert child.stdout is not None
    return child.stdout


def _check(child: subprocess.Popen[str], rank: int, folder: Path) -> None:
    code = child.wait()
    if code:
        lines = (folder / f"rank-{rank}.err").read_text(errors="replace").splitlines()
        tail = "\n".join(lines[-TAIL_LINES:])
        raise ProbeError(f"rank {rank} of the probe ended with code {code}:\n{tail}")


def _stop(children: Sequence[subprocess.Popen[str]]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(timeout=STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        _out(child).close()
