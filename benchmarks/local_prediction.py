"""Predicted against measured: step time and peak memory of training strategies on this machine's CPU devices.

The prediction knows what ``trimtab probe`` measured and nothing else: it is made before any step of the models. Then the
trainer's real engine runs every strategy as real rank processes, in turn, over several rounds.

Figures: ``step_median_error_frac`` (median over all cases of |predicted - measured| / measured), ``memory_worst_error_frac``
(worst rank of all cases), ``chosen_over_best_ratio`` (measured step of the strategy predicted fastest over the best measured;
worst model).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks._figures import write_figures  # noqa: E402
from planner.costs import DeviceContext, Prediction, predict  # noqa: E402
from scheduler.entrypoints.documents import load_job  # noqa: E402
from trimtab.fingerprint import cpu_slots, node_facts, slug  # noqa: E402
from trimtab.ids import DeviceTypeName, PoolId  # noqa: E402
from trimtab.inventory import DeviceKind, DeviceType, Pool, ProbeReport, Shape  # noqa: E402
from trimtab.model import ModelSpec  # noqa: E402
from trimtab.strategy import PipelineSchedule, Recompute, Strategy  # noqa: E402
from trimtab.wire import dumps, encode, loads  # noqa: E402
from trimtab.workload import TrainWorkload  # noqa: E402

EXAMPLES = ("examples/stdlib-lm/job.yaml", "examples/translation/job.yaml")
GOALS = {
    "step_median_error_frac": "at most 0.15",
    "chosen_over_best_ratio": "at most 1.05, or inside the spread of the best",
}
CHILD = Path(__file__).with_name("_prediction_ranks.py")


@dataclass(slots=True, kw_only=True)
class Case:
    """One strategy of one model with what was predicted and what was measured."""

    name: str
    model: ModelSpec
    train: TrainWorkload
    strategy: Strategy
    prediction: Prediction | None = None
    seconds: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)

    @property
    def predicted_s(self) -> float:
        """Predicted step."""
        assert self.prediction is not None
        return self.prediction.step_s.value

    @property
    def measured_s(self) -> float:
        """Median measured step."""
        return statistics.median(self.seconds)

    @property
    def step_error_frac(self) -> float:
        """Signed relative error of the predicted step."""
        return self.predicted_s / self.measured_s - 1.0

    @property
    def memory_error_frac(self) -> float:
        """Signed relative error of the worst rank."""
        assert self.prediction is not None
        per_stage = len(self.peak_bytes) // self.strategy.pp
        errors = [
            self.prediction.memory[rank // per_stage].total_bytes.value / peak - 1.0 for rank, peak in enumerate(self.peak_bytes)
        ]
        return max(errors, key=abs)

    def covers(self) -> bool:
        """Whether the 80 % interval holds the measured median."""
        assert self.prediction is not None
        return self.prediction.step_s.low <= self.measured_s <= self.prediction.step_s.high


class Ranks:
    """Real processes, pinned as the local executor pins ranks, that serve timing orders."""

    def __init__(self, stack: ExitStack, cases: Sequence[Case], num_ranks: int, folder: Path) -> None:
        cores = cpu_slots(max(num_ranks, len(cpu_slots())))
        document = folder / f"cases-{num_ranks}.json"
        document.write_text(json.dumps({"cases": [_on_wire(case) for case in cases]}))
        self.children = [self._start(rank, num_ranks, cores[rank], document, folder) for rank in range(num_ranks)]
        for child in self.children:
            stack.callback(_end, child)

    def ask(self, order: dict[str, object]) -> list[dict[str, Any]]:
        """Give all ranks the same order; their answers. Raises RuntimeError when a rank has ended."""
        for child in self.children:
            assert child.stdin is not None
            child.stdin.write(json.dumps(order) + "\n")
            child.stdin.flush()
        answers = []
        for rank, child in enumerate(self.children):
            assert child.stdout is not None
            line = child.stdout.readline()
            if not line:
                raise RuntimeError(f"rank {rank} of {len(self.children)} ended with code {child.wait()} at {order}")
            answers.append(json.loads(line))
        return answers

    @staticmethod
    def _start(rank: int, num_ranks: int, cores: tuple[int, ...], document: Path, folder: Path) -> subprocess.Popen[str]:
        environment = dict(os.environ) | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(num_ranks),
            "LOCAL_WORLD_SIZE": str(num_ranks),
            "OMP_NUM_THREADS": str(len(cores)),
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, str(CHILD), "--cases", str(document), "--store", str(folder / f"store-{num_ranks}")]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(child.pid, cores)
        return child


def _end(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    if child.poll() is None:
        child.stdin.close()
        try:
            child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    child.stdout.close()


def _on_wire(case: Case) -> dict[str, object]:
    return {"name": case.name, **{name: encode(getattr(case, name)) for name in ("model", "train", "strategy")}}


def strategies(train: TrainWorkload, num_devices: int) -> list[Strategy]:
    """The strategies that are tried: each kind of parallelism, several micro-batches, recompute, mixes where devices allow."""
    batch = train.global_batch

    def make(num_micro: int, **degrees: object) -> Strategy:
        base = Strategy(num_micro_batches=num_micro, precision=train.precision)
        strategy = replace(base, **degrees)  # type: ignore[arg-type]
        return replace(strategy, micro_batch=batch // strategy.data_ranks // num_micro)

    out = [make(1), make(4), make(2, recompute=Recompute.FULL), make(1, recompute=Recompute.SELECTIVE)]
    if num_devices >= 2:
        out += [
            make(1, dp=2),
            make(4, dp=2),
            make(2, dp=2, recompute=Recompute.FULL),
            make(1, fsdp=2, zero_stage=3),
            make(2, fsdp=2, zero_stage=2),
            make(1, tp=2),
            make(2, tp=2, sequence_parallel=True),
            make(4, pp=2),
            make(8, pp=2, schedule=PipelineSchedule.GPIPE),
        ]
    if num_devices >= 4:
        out += [make(1, dp=2, tp=2), make(2, fsdp=2, zero_stage=3, tp=2), make(4, dp=2, pp=2), make(4, tp=2, pp=2)]
    return out


def run_probe(num_devices: int, folder: Path) -> ProbeReport:
    """``trimtab probe`` of this machine's CPU devices."""
    path = folder / "probe.json"
    command = [sys.executable, "-m", "workers.probe", "--kind", "cpu", "--devices", str(num_devices), "--output", str(path)]
    subprocess.run(command, cwd=ROOT, check=True)
    return loads(ProbeReport, path.read_text())


def predict_all(cases: Sequence[Case], device_type: DeviceType, probe: ProbeReport | None, num_devices: int) -> None:
    """Fill in every prediction."""
    pool = Pool(id=PoolId("local-cpu"), device_type=device_type.name, devices_per_node=num_devices, num_nodes=1)
    for case in cases:
        shape = Shape(num_nodes=1, devices_per_node=case.strategy.world_size)
        context = DeviceContext(device_type=device_type, pool=pool, shape=shape, probe=probe)
        case.prediction = predict(model=case.model, train=case.train, strategy=case.strategy, context=context)


def start_ranks(stack: ExitStack, cases: Sequence[Case], folder: Path) -> dict[int, Ranks]:
    """One set of processes for each number of ranks."""
    sizes = sorted({case.strategy.world_size for case in cases})
    return {size: Ranks(stack, of_size(cases, size), size, folder) for size in sizes}


def of_size(cases: Sequence[Case], size: int) -> list[Case]:
    """The cases of that many ranks."""
    return [case for case in cases if case.strategy.world_size == size]


def measure_all(cases: Sequence[Case], ranks: dict[int, Ranks], *, rounds: int, steps: int) -> None:
    """Run every case in turn, ``rounds`` times over; memory once."""
    places = {id(case): index for size in ranks for index, case in enumerate(of_size(cases, size))}
    for turn in range(rounds):
        for case in cases:
            own, index = ranks[case.strategy.world_size], places[id(case)]
            if turn == 0:
                case.peak_bytes = [answer["peak_bytes"] for answer in own.ask({"do": "memory", "case": index})]
            case.seconds += own.ask({"do": "time", "case": index, "steps": steps})[0]["seconds"]
        sys.stderr.write(f"round {turn + 1} of {rounds}\n")


def figures(cases: Sequence[Case]) -> tuple[dict[str, float | None], dict[str, object]]:
    """The figures, and what was chosen per model."""
    ratios: list[float] = []
    chosen: dict[str, object] = {}
    for model in dict.fromkeys(case.model.name for case in cases):
        mine = [case for case in cases if case.model.name == model]
        first = min(mine, key=lambda case: case.predicted_s)
        best = min(mine, key=lambda case: case.measured_s)
        high = sorted(best.seconds)[min(len(best.seconds) - 1, round(0.975 * (len(best.seconds) - 1)))]
        ratio = first.measured_s / best.measured_s
        ratios.append(ratio)
        chosen[model] = {
            "chosen": first.strategy.label(),
            "best": best.strategy.label(),
            "ratio": ratio,
            "inside_95_percent_spread_of_best": first.measured_s <= high,
        }
    values: dict[str, float | None] = {
        "step_median_error_frac": statistics.median(abs(case.step_error_frac) for case in cases),
        "memory_worst_error_frac": max(abs(case.memory_error_frac) for case in cases),
        "chosen_over_best_ratio": max(ratios),
        "interval_coverage_frac": statistics.fmean(case.covers() for case in cases),
        "cases_count": float(len(cases)),
    }
    return values, chosen


def table(cases: Sequence[Case]) -> str:
    """One line per case."""
    header = (
        f"{'model':<14}{'strategy':<44}{'predicted s':>12}{'measured s':>12}{'10-90 %':>17}{'error':>8}{'memory':>9}{'error':>8}"
    )
    lines = [header]
    for case in cases:
        ordered = sorted(case.seconds)
        spread = f"{ordered[len(ordered) // 10]:.3f}-{ordered[-1 - len(ordered) // 10]:.3f}"
        lines.append(
            f"{case.model.name:<14}{case.strategy.label():<44}{case.predicted_s:>12.4f}{case.measured_s:>12.4f}{spread:>17}"
            f"{case.step_error_frac:>+8.1%}{max(case.peak_bytes) / 2**20:>5.0f} MiB{case.memory_error_frac:>+8.1%}"
        )
    return "\n".join(lines)


def smoke_device() -> DeviceType:
    """A rough device type for the short form, which does not probe."""
    return DeviceType(
        name=DeviceTypeName(f"cpu-{slug(node_facts().cpu_model)}"),
        kind=DeviceKind.CPU,
        memory_bytes=4 << 30,
        peak_flops={"fp32": 5e10},
        memory_bandwidth_bytes_per_s=1e10,
        source="assumed for the short form",
        retrieved_on="2026-11-24",
    )


def load_cases(num_devices: int, *, smoke: bool) -> list[Case]:
    """The example jobs under every strategy; in the short form one tiny model under two."""
    cases = []
    for path in EXAMPLES[:1] if smoke else EXAMPLES:
        spec = load_job(ROOT / path)
        assert spec.model is not None
        assert spec.train is not None
        train = replace(spec.train, sequence_length=16, global_batch=4) if smoke else spec.train
        chosen = strategies(train, num_devices)[: 2 if smoke else None]
        cases += [Case(name=spec.name, model=spec.model, train=train, strategy=strategy) for strategy in chosen]
    return cases


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write figures, details and environment here")
    parser.add_argument("--smoke", action="store_true", help="under 5 s, proves only that it runs")
    parser.add_argument("--rounds", type=int, default=6, help="times that all strategies are run in turn")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a strategy in one turn")
    parser.add_argument("--devices", type=int, default=None, help="CPU devices to use (default: as the probe)")
    parser.add_argument("--probe", type=Path, metavar="FILE", help="a ProbeReport made before, instead of probing now")
    options = parser.parse_args(argv)
    num_devices = 1 if options.smoke else len(cpu_slots(options.devices))
    cases = load_cases(num_devices, smoke=options.smoke)
    with tempfile.TemporaryDirectory(prefix="trimtab-prediction-") as name, ExitStack() as stack:
        folder = Path(name)
        probe = None
        if not options.smoke:
            probe = loads(ProbeReport, options.probe.read_text()) if options.probe else run_probe(num_devices, folder)
        ranks = start_ranks(stack, cases, folder)  # they import while the predictions are made; no step runs before
        predict_all(cases, probe.device_type if probe else smoke_device(), probe, num_devices)
        rounds, steps = (1, 1) if options.smoke else (options.rounds, options.steps)
        measure_all(cases, ranks, rounds=rounds, steps=steps)
    values, chosen = figures(cases)
    print(table(cases))
    for key, value in values.items():
        print(f"{key:<28}{value:>10.4f}")
    print(json.dumps(chosen, indent=1))
    details = {"cases": [_detail(case) for case in cases], "chosen": chosen}
    write_figures(options.json, values, details=details, goals=GOALS, packages=("torch", "numpy"))
    return 0


def _detail(case: Case) -> dict[str, object]:
    assert case.prediction is not None
    return {
        "model": case.model.name,
        "strategy": case.strategy.label(),
        "predicted": json.loads(dumps(case.prediction.step_s)),
        "parts": {part.name: part.seconds for part in case.prediction.parts},
        "measured_s": case.seconds,
        "memory_predicted": json.loads(dumps(case.prediction.memory)),
        "memory_measured_bytes": case.peak_bytes,
    }


if __name__ == "__main__":
    sys.exit(main())
