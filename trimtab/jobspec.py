"""A job as a person asked for it, parsed and checked. The file's schema is in ``trimtab.spec``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from trimtab.ids import ProjectId
from trimtab.inventory import Market
from trimtab.model import ModelSpec
from trimtab.strategy import Recompute
from trimtab.workload import TrainWorkload

DEFAULT_PROJECT = ProjectId("default")


class JobKind(StrEnum):
    """What a job does."""

    TRAIN = "train"
    COMMAND = "command"


class Trainer(StrEnum):
    """The framework that trains. Only ``trimtab`` is started here; a plan for another one is exported to it."""

    TRIMTAB = "trimtab"
    MEGATRON = "megatron"
    TORCHTITAN = "torchtitan"
    DEEPSPEED = "deepspeed"
    MAXTEXT = "maxtext"
    COMPOSER_FSDP = "composer-fsdp"


class Optimize(StrEnum):
    """What matters most after feasibility."""

    TIME = "time"
    COST = "cost"
    BALANCED = "balanced"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequest:
    """How many devices, and of which types (empty: any)."""

    min_devices: int = 1
    max_devices: int | None = None
    types: tuple[str, ...] = ()
    markets: tuple[Market, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyRequest:
    """Parts of the strategy that the person fixed; None leaves the choice to the planner."""

    dp: int | None = None
    fsdp: int | None = None
    tp: int | None = None
    pp: int | None = None
    micro_batch: int | None = None
    recompute: Recompute | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Hard limits; None means none."""

    max_cost_usd: float | None = None
    max_hours: float | None = None
    max_usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPolicy:
    """When to write checkpoints and how many verified ones to keep. Both intervals 0: only at the end and on a stop."""

    every_steps: int = 0
    every_s: float = 60.0
    keep: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a unit is tried again, failures and losses (of sight, node, device) counted apart; stops are never counted."""

    max_failures: int = 3
    max_losses: int = 10
    backoff_s: float = 2.0
    max_backoff_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSpec:
    """A user's own program: an argument list (never a shell string), its folder and its environment."""

    argv: tuple[str, ...]
    working_dir: str
    environment: Mapping[str, str] = field(default_factory=dict)
    ranks_per_node: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One job. Kind TRAIN has ``model`` and ``train``, kind COMMAND has ``command``."""

    name: str
    kind: JobKind
    model: ModelSpec | None = None
    train: TrainWorkload | None = None
    framework: Trainer = Trainer.TRIMTAB
    command: CommandSpec | None = None
    devices: DeviceRequest = DeviceRequest()
    strategy: StrategyRequest = StrategyRequest()
    limits: Limits = Limits()
    optimize: Optimize = Optimize.TIME
    deadline_hours: float | None = None
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    retry: RetryPolicy = RetryPolicy()
    project: ProjectId = DEFAULT_PROJECT
    queue: str = "default"
    priority: int = 0
    grace_s: float = 30.0
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind is JobKind.TRAIN and (self.model is None or self.train is None or self.command is not None):
            raise ValueError("a train job has a model and a training workload, and no command")
        if self.kind is JobKind.COMMAND and (self.command is None or self.model is not None or self.train is not None):
            raise ValueError("a command job has a command, and no model or workload")
