"""What a search over several device types is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from planner.strategies import Framework
from planner.training.profiles import Profile
from trimtab.estimate import Estimate
from trimtab.inventory import DeviceType, Link
from trimtab.model import ModelSpec
from trimtab.plan import FitVerdict
from trimtab.strategy import Recompute, Strategy
from trimtab.workload import TrainWorkload


class MixedKind(StrEnum):
    """How a job uses several device types."""

    PIPELINE = "pipeline"
    REPLICAS = "replicas"
    ONE_TYPE = "one-type"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSet:
    """Nodes of one device type; links and network are those of the type where none is given."""

    device_type: DeviceType
    num_nodes: int
    devices_per_node: int
    link: Link | None = None
    network: Link | None = None

    @property
    def num_devices(self) -> int:
        """Devices of all nodes."""
        return self.num_nodes * self.devices_per_node


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedJob:
    """A model and workload for one framework (its rules and its cost profile) on groups of unlike devices."""

    model: ModelSpec
    train: TrainWorkload
    framework: Framework
    profile: Profile
    groups: tuple[NodeSet, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One pipeline stage: where it runs, its layers, and how.

    ``pipeline`` numbers the pipelines of unlike replicas; ``num_replicas`` ranks see different samples. A replica does
    ``num_micro_batches`` a step, or one less where the shares do not come out even. ``slot_s`` is one micro-batch, forward and
    backward.
    """

    device_type: str
    pipeline: int
    num_layers: int
    num_replicas: int
    tp: int
    ep: int
    zero_stage: int
    recompute: Recompute
    micro_batch: int
    num_micro_batches: int
    slot_s: float
    memory_bytes: float
    fit: FitVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedPlan:
    """How a job runs on the groups. ``samples`` is each pipeline's share of the global batch.

    ``bubble_frac`` of the step passes while the pipeline fills and empties; ``slowest_stage`` sets the pace. A plan of kind
    ``ONE_TYPE`` has the ``strategy`` of its only group, and no stages: all its stages are alike.
    """

    kind: MixedKind
    stages: tuple[StagePlan, ...]
    samples: tuple[int, ...]
    step_s: Estimate
    bubble_frac: float
    slowest_stage: int
    group: int | None = None
    strategy: Strategy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedSearch:
    """The best plans, the fastest first, and how many legal choices there were of each kind, without the splits of layers.

    ``num_refined`` had their layers or shares chosen exactly. ``is_exact`` says that no other choice can be faster: else the
    budget of refinements ended before the bounds did.
    """

    best: tuple[MixedPlan, ...]
    num_pipelines: int
    num_replicas: int
    num_one_type: int
    num_refined: int
    is_exact: bool

    @property
    def num_legal(self) -> int:
        """All choices."""
        return self.num_pipelines + self.num_replicas + self.num_one_type
