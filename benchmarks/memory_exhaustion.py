"""Steps the built-in trainer to real exhaustion under a memory limit, and compares with what the planner said beforehand.

Every configuration runs as real rank processes that may not map more memory than the limit (``_exhaustion_ranks.py`` says how the
kernel holds them to it). Per strategy the micro-batch (or the sequence) is stepped outwards from the largest that is predicted to
fit, until the largest that runs and the next that runs out are found, a few per cent apart. So most configurations lie close to
the edge, where a prediction is hardest; the smallest and the largest of the ladder are tried too.

Figures: ``false_fits_count`` (said fits, ran out), ``false_does_not_fit_count`` (said does-not-fit, ran), ``tight_frac``;
``largest_predicted_over_real_*_ratio`` of the largest size that fits; errors of the predicted peak of tensors against torch's
tracker and of the predicted need against the highest resident bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks._exhaustion_search import Tried, figures, ladder, largest  # noqa: E402
from benchmarks._figures import write_figures  # noqa: E402
from planner.candidates.memory import predict_memory  # noqa: E402
from planner.candidates.predict import needed_bytes, verdict  # noqa: E402
from planner.costs import DeviceContext  # noqa: E402
from trimtab.ids import DeviceTypeName, PoolId  # noqa: E402
from trimtab.inventory import DeviceKind, DeviceType, Pool, Shape  # noqa: E402
from trimtab.model import AttentionSpec, FeedForwardSpec, ModelFamily, ModelSpec, StackRole, StackSpec  # noqa: E402
from trimtab.orders import EXIT_OUT_OF_MEMORY  # noqa: E402
from trimtab.plan import RankMemory  # noqa: E402
from trimtab.strategy import Recompute, Strategy  # noqa: E402
from trimtab.wire import encode  # noqa: E402
from trimtab.workload import DataKind, DataSpec, TrainWorkload  # noqa: E402

GOALS = {
    "false_fits_count": "0",
    "false_does_not_fit_count": "0",
    "tensor_peak_worst_error_frac": "at most 0.05",
    "largest_predicted_over_real_median_ratio": "0.9 to 1.1",
}
CHILD = Path(__file__).with_name("_exhaustion_ranks.py")
LIMIT_S = 180.0
"""A configuration that takes longer than this is a failure of the benchmark, not of memory."""
STEP_FRAC = 0.12
LOW_FRAC, HIGH_FRAC = 0.4, 2.5
SEQUENCE_UNIT = 16
NUM_AT_ONCE = 3
"""Strategies explored at once: each process has its own limit, and nothing is timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A strategy of which one size is stepped: its micro-batch, or the sequence in units of 16 tokens."""

    name: str
    strategy: Strategy
    sequence_length: int = 128
    steps_sequence: bool = False

    def of_size(self, size: int) -> tuple[Strategy, TrainWorkload]:
        """The strategy and the workload at one size."""
        strategy = self.strategy if self.steps_sequence else replace(self.strategy, micro_batch=size)
        length = size * SEQUENCE_UNIT if self.steps_sequence else self.sequence_length
        data = DataSpec(kind=DataKind.STDLIB)
        return strategy, TrainWorkload(num_steps=10, sequence_length=length, global_batch=strategy.global_batch, data=data)


FAMILIES = (
    Family(name="single", strategy=Strategy()),
    Family(name="dp 2", strategy=Strategy(dp=2)),
    Family(name="fsdp 2 zero 3", strategy=Strategy(fsdp=2, zero_stage=3)),
    Family(name="tp 2", strategy=Strategy(tp=2)),
    Family(name="pp 2", strategy=Strategy(pp=2, num_micro_batches=3)),
    Family(name="recompute selective", strategy=Strategy(recompute=Recompute.SELECTIVE)),
    Family(name="recompute full", strategy=Strategy(recompute=Recompute.FULL)),
    Family(name="sequence", strategy=Strategy(micro_batch=2), steps_sequence=True),
)


def small_model(num_layers: int = 8) -> ModelSpec:
    """A decoder whose tensors outweigh the process well before a step takes long."""
    layer = StackSpec(
        role=StackRole.DECODER,
        num_layers=num_layers,
        attention=AttentionSpec(num_heads=4, num_kv_heads=4, head_size=32),
        feed_forward=FeedForwardSpec(hidden_size=384),
    )
    return ModelSpec(name="decoder-128", family=ModelFamily.DECODER, hidden_size=128, vocab_size=8192, stacks=(layer,))


class Bench:
    """Predicts and runs configurations of one model under one limit."""

    def __init__(self, model: ModelSpec, limit_bytes: int, folder: Path) -> None:
        self.model = model
        self.limit_bytes = limit_bytes
        self.folder = folder
        self.tried: list[Tried] = []

    def predicted(self, family: Family, size: int) -> tuple[RankMemory, ...]:
        """What the planner says."""
        strategy, train = family.of_size(size)
        device = DeviceType(
            name=DeviceTypeName("cpu-limited"),
            kind=DeviceKind.CPU,
            memory_bytes=self.limit_bytes,
            peak_flops={"fp32": 5e10},
            memory_bandwidth_bytes_per_s=1e10,
            source="the limit of this benchmark",
            retrieved_on="2026-11-25",
        )
        num_ranks = strategy.world_size
        pool = Pool(id=PoolId("limited"), device_type=device.name, devices_per_node=num_ranks, num_nodes=1)
        context = DeviceContext(device_type=device, pool=pool, shape=Shape(num_nodes=1, devices_per_node=num_ranks), probe=None)
        return predict_memory(model=self.model, train=train, strategy=strategy, context=context)

    def largest_predicted(self, family: Family) -> int:
        """The largest size of which the expected need is at most the limit; 1 where none is."""
        size = 1
        while all(needed_bytes(memory) <= self.limit_bytes for memory in self.predicted(family, size + 1)):
            size += 1
        return size

    def run(self, family: Family, size: int, *, measure_peak: bool = False) -> Tried:
        """Run one configuration for real. Raises RuntimeError where a rank fails for any reason but memory."""
        strategy, train = family.of_size(size)
        memory = self.predicted(family, size)
        answers = run_ranks(
            trial={
                "model": encode(self.model),
                "train": encode(train),
                "strategy": encode(strategy),
                "limit_bytes": self.limit_bytes,
                "measure_peak": measure_peak,
            },
            num_ranks=strategy.world_size,
            folder=self.folder,
        )
        ran = all("error" not in answer for answer in answers)
        worst = max(memory, key=needed_bytes)
        peaks = [answer.get("peak_tensor_bytes") for answer in answers]
        per_stage = len(answers) // strategy.pp
        pairs = [(memory[rank // per_stage].total_bytes.value, peak) for rank, peak in enumerate(peaks) if peak]
        pair = max(pairs, key=lambda both: abs(both[0] / both[1] - 1.0), default=(worst.total_bytes.value, None))
        tried = Tried(
            family=family.name,
            size=size,
            verdict=verdict(memory, float(self.limit_bytes)),
            ran=ran,
            predicted_needed_bytes=needed_bytes(worst),
            predicted_tensor_bytes=pair[0],
            resident_peak_bytes=max(answer["resident_peak_bytes"] for answer in answers),
            peak_tensor_bytes=pair[1],
        )
        self.tried.append(tried)
        return tried

    def explore(self, family: Family) -> tuple[int, int]:
        """Step to exhaustion; the largest size predicted to fit and the largest that ran.

        Raises RuntimeError where the whole ladder ran, or nothing of it.
        """
        predicted = self.largest_predicted(family)
        sizes = ladder(predicted, step_frac=STEP_FRAC, low_frac=LOW_FRAC, high_frac=HIGH_FRAC)
        self.run(family, sizes[0], measure_peak=True)
        real = largest(sizes, self._runs(family), first=predicted)
        if real is None or real == sizes[-1]:
            raise RuntimeError(f"{family.name}: no edge between {sizes[0]} and {sizes[-1]}")
        return predicted, real

    def _runs(self, family: Family) -> Callable[[int], bool]:
        def runs(size: int) -> bool:
            found = next((one for one in self.tried if (one.family, one.size) == (family.name, size)), None)
            return (found or self.run(family, size)).ran

        return runs


def run_ranks(*, trial: dict[str, object], num_ranks: int, folder: Path) -> list[dict[str, Any]]:
    """One answer per rank, of those that did not merely lose their peers. Raises RuntimeError for any other failure."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / "trial.json"
        path.write_text(json.dumps(trial))
        with (Path(name) / "errors.txt").open("w+") as errors:
            children = [_start(rank, num_ranks, path, errors) for rank in range(num_ranks)]
            try:
                _wait(children)
            finally:
                for child in children:
                    child.kill()
                said_by = [child.communicate()[0] for child in children]
            errors.seek(0)
            said = errors.read()
    codes = [child.returncode for child in children]
    answers = [json.loads(text) if text else {} for text in said_by]
    if EXIT_OUT_OF_MEMORY in codes:  # the other ranks lose their peer and fail as well
        return [answer for answer, code in zip(answers, codes, strict=True) if code == EXIT_OUT_OF_MEMORY]
    if any(codes):
        raise RuntimeError(f"ranks ended with {codes}: {said[-3000:]}")
    return answers


def _wait(children: Sequence[subprocess.Popen[str]]) -> None:
    """Until all have ended, or one ran out of memory (its peers may wait for it)."""
    deadline = time.monotonic() + LIMIT_S
    while any(child.poll() is None for child in children):
        if any(child.poll() == EXIT_OUT_OF_MEMORY for child in children):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"a configuration took longer than {LIMIT_S:.0f} s")
        time.sleep(0.05)


def _start(rank: int, num_ranks: int, trial: Path, errors: Any) -> subprocess.Popen[str]:
    environment = dict(os.environ) | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(CHILD), "--trial", str(trial), "--store", str(trial.with_name("store"))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True)


def line(one: Tried) -> str:
    """One row of the table."""
    peak = f"{one.peak_tensor_bytes / 2**20:>10.0f}" if one.peak_tensor_bytes else f"{'':>10}"
    return (
        f"{one.family:<22}{one.size:>5}  {one.verdict:<13}{'ran' if one.ran else 'ran out':<8}"
        f"{one.predicted_needed_bytes / 2**20:>10.0f}{one.resident_peak_bytes / 2**20:>10.0f}"
        f"{one.predicted_tensor_bytes / 2**20:>10.0f}{peak}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write figures, details and environment here")
    parser.add_argument("--smoke", action="store_true", help="one that runs and one that does not, proves only that it works")
    parser.add_argument("--limit-mib", type=int, default=1024, help="memory limit of each rank")
    parser.add_argument("--only", metavar="TEXT", default="", help="only strategies with this in their name")
    options = parser.parse_args(argv)
    families = [family for family in FAMILIES if options.only in family.name]
    predicted: dict[str, int] = {}
    real: dict[str, int] = {}
    print(f"{'strategy':<22}{'size':>5}  {'said':<13}{'':<8}{'need MiB':>10}{'resident':>10}{'tensors':>10}{'measured':>10}")
    with tempfile.TemporaryDirectory(prefix="trimtab-exhaustion-") as name:
        bench = Bench(small_model(1 if options.smoke else 8), options.limit_mib << 20, Path(name))
        if options.smoke:
            for size in (1, 4096):
                print(line(bench.run(families[0], size, measure_peak=True)))
        else:
            with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
                for family, edge in zip(families, pool.map(bench.explore, families), strict=True):
                    predicted[family.name], real[family.name] = edge
                    print("\n".join(line(one) for one in bench.tried if one.family == family.name))
                    print(f"{family.name}: largest predicted {edge[0]}, real {edge[1]}", flush=True)
    values = figures(bench.tried, predicted, real)
    for key, value in values.items():
        print(f"{key:<44}{'' if value is None else f'{value:>10.4f}'}")
    details = {"limit_bytes": bench.limit_bytes, "tried": [encode(one) for one in bench.tried], "largest": [predicted, real]}
    write_figures(options.json, values, details=details, goals=GOALS, packages=("torch", "numpy"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
