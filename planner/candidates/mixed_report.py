"""Plans of jobs on unlike devices, from refined pipelines: times with what all wait for, memory with verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from planner.candidates.mixed_pipelines import Pipelines, Refined, Side
from planner.candidates.mixed_plan import MixedJob, MixedKind, MixedPlan, StagePlan
from planner.candidates.search import Search
from planner.models.counts import model_parameters
from planner.strategies.table import RECOMPUTES
from planner.training.groups import Wires
from planner.training.mixed import across_s
from planner.training.places import Array
from planner.training.spread import Doubt, interval, log_spread
from planner.training.verdict import judge
from trimtab.estimate import Estimate, Origin
from trimtab.plan import FitVerdict

Seconds = TypeVar("Seconds", float, Array)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One group's part of unlike replicas: a pipeline (N = 1) with its layers, and its micro-batches in all."""

    pipeline: Pipelines
    refined: Refined
    share: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Makes plans of what the search finds."""

    job: MixedJob
    sides: tuple[Side, ...]

    @property
    def num_layers(self) -> int:
        """Layers of all stacks."""
        return sum(stack.num_layers for stack in self.job.model.stacks)

    def whole_s(self, work_s: Seconds) -> Seconds:
        """Seconds of a step from those of its work: the fixed part is added, and all wait for the slowest of all nodes."""
        shared = self.sides[0].place.constants.shared
        nodes = sum(group.num_nodes for group in self.job.groups)
        return (1.0 + shared["straggler"] * math.log2(max(1.0, nodes))) * (work_s + shared["step_s"])

    def one_type(self, group: int, found: Search) -> list[MixedPlan]:
        """Plans of one group alone."""
        time = found.evaluated.time
        plans = []
        for position in range(len(found.best)):
            step_s, strategy = float(time.step_s[position]), found.best.strategy(position)
            share = self.job.train.global_batch
            plans.append(
                MixedPlan(
                    kind=MixedKind.ONE_TYPE,
                    stages=(),
                    samples=(share,),
                    step_s=self._estimate(step_s, waiting_frac=1.0 - float(time.compute_s[position]) / step_s),
                    bubble_frac=float(time.bubble_s[position]) / step_s,
                    slowest_stage=0,
                    group=group,
                    strategy=strategy,
                )
            )
        return plans

    def pipeline(self, pipelines: Pipelines, refined: Refined) -> MixedPlan:
        """The plan of one uneven pipeline (N = 1)."""
        micro = int(pipelines.micro[0])
        step_s = self.whole_s(refined.pipe_s(micro) + refined.rest_s)
        stages = self._stages(pipelines, refined, number=0)
        return self._plan(MixedKind.PIPELINE, stages, (self.job.train.global_batch,), step_s=step_s)

    def replicas(self, parts: Sequence[Shared]) -> MixedPlan:
        """The plan of unlike replicas, one pipeline per group."""
        pipes = [part.refined.pipe_s(int(part.pipeline.micro[0])) for part in parts]
        rest = max(part.refined.rest_s for part in parts)
        ends = [self._network(part.pipeline.sides[0]) for part in parts]
        width = float(self.sides[0].place.asked(self.sides[0].job, parts[0].pipeline.tables[0]).habits.gradient_bytes[0])
        across = across_s(float(model_parameters(self.job.model).total), width, ends)
        stages = [stage for n, part in enumerate(parts) for stage in self._stages(part.pipeline, part.refined, number=n)]
        samples = tuple(part.share * int(part.pipeline.tables[0].micro_batch[0]) for part in parts)
        return self._plan(MixedKind.REPLICAS, stages, samples, step_s=self.whole_s(max(pipes) + rest + across))

    def _plan(self, kind: MixedKind, stages: Sequence[StagePlan], samples: tuple[int, ...], *, step_s: float) -> MixedPlan:
        """The stage that is busy longest sets the pace; what its pipeline takes beside that to fill and empty is the bubble."""
        busy = [stage.slot_s * stage.num_micro_batches for stage in stages]
        slowest = int(np.argmax(busy))
        own = [stage.slot_s for stage in stages if stage.pipeline == stages[slowest].pipeline]
        return MixedPlan(
            kind=kind,
            stages=tuple(stages),
            samples=samples,
            step_s=self._estimate(step_s, waiting_frac=max(0.0, 1.0 - self.whole_s(busy[slowest]) / step_s)),
            bubble_frac=(sum(own) - stages[slowest].slot_s) / step_s,
            slowest_stage=slowest,
        )

    def _stages(self, pipelines: Pipelines, refined: Refined, *, number: int) -> list[StagePlan]:
        stages = []
        segment = np.repeat(np.arange(pipelines.counts.shape[1]), pipelines.counts[0])
        for stage, k in enumerate(segment):
            side, table = pipelines.sides[k], pipelines.tables[k]
            held = float(refined.stage_bytes[stage])
            fit = judge(held, float(side.group.device_type.memory_bytes), profile=self.job.profile).fit
            stages.append(
                StagePlan(
                    device_type=str(side.group.device_type.name),
                    pipeline=number,
                    num_layers=int(refined.layers[stage]),
                    num_replicas=int(table.data_ranks[0]),
                    tp=int(table.tp[0]),
                    ep=int(table.ep[0]),
                    zero_stage=int(table.zero_stage[0]),
                    recompute=RECOMPUTES[int(table.recompute[0])],
                    micro_batch=int(table.micro_batch[0]),
                    num_micro_batches=int(table.num_micro_batches[0]),
                    slot_s=float(refined.slots_s[stage]),
                    memory_bytes=held,
                    fit=fit or FitVerdict.DOES_NOT_FIT,
                )
            )
        return stages

    def _network(self, side: Side) -> tuple[float, float]:
        """Devices of a side and the bytes per second of each over the network."""
        table = side.options.take(np.array([0]))
        asked = side.place.asked(side.job, table)
        wires = Wires(place=asked.place, knobs=asked.knobs)
        return float(side.group.num_devices), float(np.asarray(wires.network).reshape(-1)[0])

    def _estimate(self, step_s: float, *, waiting_frac: float) -> Estimate:
        has_experts = any(stack.feed_forward.experts is not None for stack in self.job.model.stacks)
        doubt = Doubt(has_experts=has_experts, is_guessed=False, waiting_frac=min(1.0, max(0.0, waiting_frac)))
        constants = self.sides[0].place.constants
        low, high = interval(step_s, log_spread(doubt, constants.shared, num_measured=0))
        source = f"training cost model, {constants.source}"
        return Estimate(value=step_s, low=low, high=high, origin=Origin.PUBLISHED, source=source)
