"""Batch advice: micro-batches that fit, the global batch from the gradient noise, what both do to time and cost."""

from planner.advice.advise import advise
from planner.advice.critical import critical_batch, measured_batch
from planner.advice.noise import (
    BatchTrade,
    NoiseEstimate,
    effective_samples,
    examples_multiplier,
    noise_scale,
    steps_multiplier,
)
from planner.advice.types import (
    Advice,
    AdviceQuestion,
    AdviceWarning,
    AdviceWarningKind,
    MicroBatchRow,
    Rate,
    SplitAdvice,
    TradePoint,
)

__all__ = [
    "Advice",
    "AdviceQuestion",
    "AdviceWarning",
    "AdviceWarningKind",
    "BatchTrade",
    "MicroBatchRow",
    "NoiseEstimate",
    "Rate",
    "SplitAdvice",
    "TradePoint",
    "advise",
    "critical_batch",
    "effective_samples",
    "examples_multiplier",
    "measured_batch",
    "noise_scale",
    "steps_multiplier",
]
