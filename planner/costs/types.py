"""What the cost model is asked and what it answers, and the words that its modules share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trimtab.estimate import Constant, Estimate
    from trimtab.inventory import DeviceType, Link, Pool, ProbeKernel, ProbeReport, Shape
    from trimtab.plan import RankMemory, TimePart
    from trimtab.strategy import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceContext:
    """Where a strategy would run: the device type, its pool, nodes x devices, and what a probe measured there (None: nothing).

    ``framework`` names the trainer whose habits the model mirrors. ``memo`` remembers sums of kernel times that the
    strategies of this context share: one context for many of them is much faster than one for each.
    """

    device_type: DeviceType
    pool: Pool
    shape: Shape
    probe: ProbeReport | None = None
    framework: str = "trimtab"
    memo: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def network(self) -> Link | None:
        """What joins the nodes: the pool's network, else the usual one of the device type."""
        return self.pool.network or self.device_type.network


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Predicted step of one strategy.

    ``parts`` add up to ``step_s.value``. ``memory`` has one entry per pipeline stage. ``fixed_s`` is what a whole run costs
    beside its steps: start-up, evaluation, the last checkpoint, part by part in ``fixed_parts``. One checkpoint takes
    ``checkpoint_s``, reading it at a restart ``restart_read_s``, the input of one step ``input_s``, read ahead of it.
    ``constants`` are those that were really used. ``raw_step_s`` is the step before a calibration (None: there was none).
    """

    step_s: Estimate
    memory: tuple[RankMemory, ...]
    parts: tuple[TimePart, ...]
    constants: tuple[Constant, ...]
    fixed_s: Estimate
    fixed_parts: tuple[TimePart, ...] = ()
    checkpoint_s: float = 0.0
    restart_read_s: float = 0.0
    input_s: float = 0.0
    raw_step_s: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One kernel, run ``count`` times. The meaning of ``shape`` for each kernel is in ``docs/probe.md``."""

    kernel: ProbeKernel
    shape: tuple[int, ...]
    count: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One collective of ``num_bytes`` (the full, gathered size) over the ``group`` named tp, fsdp, dp or pp, ``count`` times."""

    kernel: ProbeKernel
    group: str
    num_bytes: float
    count: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One step of the forward pass of a micro-batch on one rank, with its backward.

    ``saved_bytes`` is what autograd keeps from it until its backward has run (each tensor is counted by one operation only);
    ``kept_bytes`` what selective recompute keeps of it. ``live_bytes`` exists beside that while it runs forward,
    ``backward_live_bytes`` while it runs backward. ``weights`` are the parameters that it reads, in elements on this rank.
    ``launches`` counts kernels that move no data worth counting (views and the like), forward and backward; ``num_saved`` the
    tensors that autograd keeps, weights among them: a checkpointed layer pays for each.
    """

    name: str
    forward: tuple[Work, ...] = ()
    backward: tuple[Work, ...] = ()
    forward_exchanges: tuple[Exchange, ...] = ()
    backward_exchanges: tuple[Exchange, ...] = ()
    saved_bytes: float = 0.0
    kept_bytes: float = 0.0
    live_bytes: float = 0.0
    backward_live_bytes: float = 0.0
    weights: int = 0
    launches: tuple[int, int] = (0, 0)
    num_saved: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """A time and the half width of its 80 % interval as a share of it."""

    value: float
    error_frac: float


@dataclass(slots=True)
class ConstantLog:
    """Collects the constants that a prediction really used, in order of first use."""

    used: dict[str, Constant] = field(default_factory=dict)

    def note(self, constant: Constant) -> float:
        """Remember ``constant`` and hand out its value."""
        self.used.setdefault(constant.name, constant)
        return constant.value

    def all(self) -> tuple[Constant, ...]:
        """All constants noted so far."""
        return tuple(self.used.values())


class KernelTimes(Protocol):
    """Seconds of kernels and collectives on one rank while ``num_ranks`` ranks of its node work at the same time."""

    @property
    def overlaps(self) -> bool:
        """Whether communication runs beside computation (GPU, TPU) or takes the cores of the rank (CPU)."""
        ...

    def kernel(self, work: Work, precision: Precision) -> Seconds:
        """One run of the kernel (``count`` is ignored)."""
        ...

    def exchange(self, exchange: Exchange, spans: Mapping[str, RankSpan]) -> Seconds:
        """One run of the collective (``count`` is ignored)."""
        ...

    def constants(self) -> tuple[Constant, ...]:
        """Constants used so far."""
        ...

    def renewed(self) -> KernelTimes:
        """The same provider, with no constants used so far."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSpan:
    """How the ranks of one group lie: ``size`` ranks, ``per_node`` of them on a node (so size / per_node nodes)."""

    size: int
    per_node: int

    @property
    def num_nodes(self) -> int:
        """Nodes that the group touches."""
        return -(-self.size // self.per_node)
