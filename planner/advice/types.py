"""What batch advice is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from trimtab.estimate import Constant, Estimate
from trimtab.inventory import DeviceType, Pool, ProbeReport
from trimtab.jobspec import JobSpec
from trimtab.plan import FitVerdict
from trimtab.strategy import Strategy


class AdviceWarningKind(StrEnum):
    """What a batch can get wrong."""

    FEW_STEPS_PER_EPOCH = "few-steps-per-epoch"
    REPEATED_DATA = "repeated-data"
    ABOVE_CRITICAL_BATCH = "above-critical-batch"
    MORE_DEVICES_THAN_SAMPLES = "more-devices-than-samples"
    SMALL_MICRO_BATCH = "small-micro-batch"
    DROPPED_LAST_BATCH = "dropped-last-batch"
    TIGHT_MEMORY = "tight-memory"
    OVER_LIMITS = "over-limits"
    NO_RULE = "no-rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceWarning:
    """One thing to know, with its numbers."""

    kind: AdviceWarningKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one device costs per hour, and who says so."""

    usd_per_device_hour: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceQuestion:
    """A training job and the devices that it would run on.

    ``num_devices`` of ``pool`` at most and ``min_devices`` at least are compared; with ``exactly`` the advice is for all of them,
    else for the number that the job's aim asks for. ``data_samples`` is the size of the data set, ``noise_samples`` a measured
    gradient-noise scale, both in samples; None: not known.
    """

    spec: JobSpec
    device_type: DeviceType
    pool: Pool
    num_devices: int
    min_devices: int = 1
    exactly: bool = False
    rate: Rate | None = None
    probe: ProbeReport | None = None
    data_samples: float | None = None
    noise_samples: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatchRow:
    """One micro-batch of a split: time of a step of the whole global batch, throughput, peak of the fullest rank."""

    micro_batch: int
    num_micro_batches: int
    step_s: Estimate
    tokens_per_s: float
    peak_bytes: Estimate
    fit: FitVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitAdvice:
    """Micro-batches of one way to split the model, with one recompute.

    ``largest_micro_batch`` is the largest that surely fits, whatever the global batch, while gradients are accumulated (0: not
    even one sample). ``rows`` are the powers of two that divide what a data rank gets of the global batch, up to the first that
    does not fit. ``best_micro_batch`` has the highest throughput of those that fit (0: none does).
    """

    strategy: Strategy
    largest_micro_batch: int
    best_micro_batch: int
    rows: tuple[MicroBatchRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TradePoint:
    """The whole run at one global batch on some devices, to the loss that the job's own batch and steps reach.

    ``num_steps`` and ``num_samples`` follow from the critical batch. ``cost_usd`` is None where no price is known.
    """

    num_devices: int
    strategy: Strategy
    fit: FitVerdict
    global_batch: int
    step_s: Estimate
    num_steps: int
    num_samples: float
    total_s: Estimate
    cost_usd: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The answer. Batches are in samples.

    ``critical`` is the critical batch (None: neither measured nor given by a rule). ``asked`` is the job's own batch on the
    devices of ``recommended`` (None where no strategy fits it there). ``batches`` are the batches on these devices, ``trade`` the
    best batch of each number of devices that no other beats in both time and cost; ``fastest``, ``cheapest`` and ``knee`` are
    among them. ``low_batch`` and ``high_batch`` are what would be recommended at the ends of the interval of ``critical``.
    Within ``level_frac`` of the least time batches count as equal, and the largest is advised. ``rules`` are the constants of
    the advice itself, ``constants`` those of the cost model.
    """

    framework: str
    splits: tuple[SplitAdvice, ...]
    critical: Estimate | None
    recommended: TradePoint
    low_batch: int
    high_batch: int
    asked: TradePoint | None
    batches: tuple[TradePoint, ...]
    trade: tuple[TradePoint, ...]
    fastest: TradePoint
    cheapest: TradePoint
    knee: TradePoint
    epochs: float | None
    level_frac: float
    warnings: tuple[AdviceWarning, ...]
    rules: tuple[Constant, ...]
    constants: tuple[Constant, ...]
