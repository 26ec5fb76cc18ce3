"""What an export is made from and what it comes to, and how a target says what it can express."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from trimtab.inventory import DeviceKind, Shape
from trimtab.model import ModelSpec
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload

NODE_RANK = "$NODE_RANK"
"""Stands in an argument list where the number of the node belongs."""


class ExportTarget(StrEnum):
    """Trainers and launchers that a plan can be written for."""

    TORCHRUN = "torchrun"
    TORCHTITAN = "torchtitan"
    MEGATRON = "megatron"
    DEEPSPEED = "deepspeed"
    ACCELERATE = "accelerate"
    MAXTEXT = "maxtext"
    TRIMTAB = "trimtab"


class Dimension(StrEnum):
    """The dimensions of a strategy: exactly the fields of ``trimtab.strategy.Strategy``."""

    DP = "dp"
    FSDP = "fsdp"
    ZERO_STAGE = "zero_stage"
    TP = "tp"
    SEQUENCE_PARALLEL = "sequence_parallel"
    CP = "cp"
    PP = "pp"
    VIRTUAL_STAGES = "virtual_stages"
    SCHEDULE = "schedule"
    EP = "ep"
    ETP = "etp"
    MICRO_BATCH = "micro_batch"
    NUM_MICRO_BATCHES = "num_micro_batches"
    RECOMPUTE = "recompute"
    PRECISION = "precision"
    OFFLOAD = "offload"
    STAGE_LAYERS = "stage_layers"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCase:
    """What is exported: a strategy of a training run on ``shape``.

    ``main_address`` and ``main_port`` are where the ranks meet (node 0); ``script`` is the user's own program for targets that
    start one. ``job`` is the job file's tree of plain values with absolute paths, which target ``trimtab`` writes anew; ``types``
    the device types it is fixed to. Raises ValueError where the strategy does not fill the shape.
    """

    name: str
    model: ModelSpec
    train: TrainWorkload
    strategy: Strategy
    shape: Shape
    device_kind: DeviceKind = DeviceKind.GPU
    main_address: str = "localhost"
    main_port: int = 29500
    script: str = "train.py"
    job: Mapping[str, Any] | None = None
    types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.strategy.world_size != self.shape.num_devices:
            raise ValueError(f"a strategy of {self.strategy.world_size} ranks on {self.shape.num_devices} devices")

    @property
    def stage_layers(self) -> tuple[int, ...]:
        """Layers of every pipeline stage, in the order of the model; the first take one more where the strategy names none."""
        if self.strategy.stage_layers:
            return self.strategy.stage_layers
        num_stages = self.strategy.pp * self.strategy.virtual_stages
        each, more = divmod(self.model.num_layers, num_stages)
        return tuple(each + (stage < more) for stage in range(num_stages))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFile:
    """One file to write, its name relative to the output folder."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How one node starts its part: an argument list with ``NODE_RANK`` where its number belongs, and variables to set."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def on(self, node: int) -> tuple[str, ...]:
        """The argument list of that node (0 is the first)."""
        return tuple(part.replace(NODE_RANK, str(node)) for part in self.argv)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something of the plan that the target does in its own way, or leaves to the program. ``dimension`` None: the run's."""

    dimension: Dimension | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Something of the plan that the target cannot express, and what it could. ``dimension`` None: the model or the run."""

    dimension: Dimension | None
    text: str
    allowed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A plan as a target reads it. ``num_nodes`` nodes start it, each with ``launch.on(node)``."""

    target: ExportTarget
    files: tuple[ExportFile, ...]
    launch: Launch
    num_nodes: int
    notes: tuple[Note, ...]

    def file(self, name: str) -> ExportFile:
        """The file of that name; raises KeyError."""
        for found in self.files:
            if found.name == name:
                return found
        raise KeyError(name)


def nothing(_case: ExportCase) -> str:
    """No sentence, whatever the case."""
    return ""


Sentence = Callable[[ExportCase], str]
"""Says what is wrong, or to be known, with the numbers of the case; an empty text where nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How a target expresses one dimension: the ``keys`` that carry it, what it ``limits``, and what is to be known."""

    dimension: Dimension
    keys: tuple[str, ...]
    limits: str = ""
    refuse: Sentence = nothing
    remark: Sentence = nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a target's writer makes."""

    files: tuple[ExportFile, ...]
    launch: Launch


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRules:
    """One target: a rule for every dimension, what it does not build of a model, how it is written, and for which version.

    ``beyond`` names what of the model or the run it cannot express; ``remarks`` are notes of the run as a whole.
    """

    target: ExportTarget
    version: str
    rules: tuple[Rule, ...]
    beyond: Callable[[ExportCase], tuple[str, ...]]
    write: Callable[[ExportCase], Written]
    remarks: Callable[[ExportCase], tuple[str, ...]] = lambda _case: ()
