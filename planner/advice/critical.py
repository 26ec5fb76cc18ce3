"""The critical batch: measured, or by published laws where it is not.

The laws are for language models. [K] Kaplan et al., arXiv 2001.08361, equation 1.4: B_crit(L) = B*/L^(1/alpha_B), with the
loss of [H] Hoffmann et al., arXiv 2203.15556, equation 10. [Z] Zhang et al., arXiv 2410.21676: the batch at which steps are 20 %
above linear scaling is a power of the tokens trained on; by [Mc] (arXiv 1812.06162) that overhead is B/B_crit, so B_crit is five
times as large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.models.counts import model_parameters
from trimtab.estimate import Constant, Estimate, Origin
from trimtab.model import ModelFamily, ModelSpec

_KAPLAN = "Kaplan et al., arXiv 2001.08361, equation 1.4"
_HOFFMANN = "Hoffmann et al., arXiv 2203.15556, equation 10"
_ZHANG = "Zhang et al., arXiv 2410.21676, fit over millions of tokens, in sequences of 512"


def _published(name: str, value: float, source: str) -> Constant:
    return Constant(name=name, value=value, origin=Origin.PUBLISHED, source=source)


KAPLAN_TOKENS = _published("critical batch at a loss of 1, tokens", 2e8, _KAPLAN)
KAPLAN_POWER = _published("critical batch, alpha_B", 0.21, _KAPLAN)
LOSS_FLOOR = _published("loss floor", 1.69, _HOFFMANN)
LOSS_PARAMETERS = _published("loss by parameters, factor", 406.4, _HOFFMANN)
LOSS_PARAMETERS_POWER = _published("loss by parameters, power", 0.34, _HOFFMANN)
LOSS_TOKENS = _published("loss by tokens, factor", 410.7, _HOFFMANN)
LOSS_TOKENS_POWER = _published("loss by tokens, power", 0.28, _HOFFMANN)
ZHANG_SEQUENCES = _published("batch at 20 % overhead, factor", 22.91, _ZHANG)
ZHANG_POWER = _published("batch at 20 % overhead, power", 0.47, _ZHANG)
ZHANG_LENGTH = _published("sequence length of that fit, tokens", 512.0, _ZHANG)
ZHANG_OVERHEAD_FRAC = _published("overhead in steps of that fit", 0.2, _ZHANG)
LAW_FACTOR = Constant(
    name="interval of the laws, factor",
    value=2.0,
    origin=Origin.ASSUMED,
    source="data, optimizer and schedule move the critical batch; the two laws alone differ by about this",
)
MEASURED_FACTOR = Constant(
    name="interval of a measured noise, factor",
    value=2.0,
    origin=Origin.ASSUMED,
    source="B_simple stands for the critical batch up to a small factor, and grows during training (arXiv 1812.06162, section 3)",
)
FITTED_PARAMETERS, FITTED_TOKENS = 1e7, 1e8
"""Below these the laws are extrapolated, and what they say is an assumption."""
LAW_CONSTANTS = (
    KAPLAN_TOKENS,
    KAPLAN_POWER,
    LOSS_FLOOR,
    LOSS_PARAMETERS,
    LOSS_PARAMETERS_POWER,
    LOSS_TOKENS,
    LOSS_TOKENS_POWER,
    ZHANG_SEQUENCES,
    ZHANG_POWER,
    ZHANG_LENGTH,
    ZHANG_OVERHEAD_FRAC,
    LAW_FACTOR,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Critical:
    """The critical batch in samples, and the constants behind it."""

    samples: Estimate
    constants: tuple[Constant, ...]


def measured_batch(noise_samples: float) -> Critical:
    """The critical batch of a measured noise scale, in samples. Raises ValueError for one that is not above 0."""
    if not (noise_samples > 0.0 and math.isfinite(noise_samples)):
        raise ValueError(f"a noise scale must be above 0 samples, not {noise_samples}")
    factor = MEASURED_FACTOR.value
    samples = Estimate(
        value=noise_samples,
        low=noise_samples / factor,
        high=noise_samples * factor,
        origin=Origin.MEASURED,
        source="measured gradient-noise scale (arXiv 1812.06162)",
    )
    return Critical(samples=samples, constants=(MEASURED_FACTOR,))


def critical_batch(model: ModelSpec, *, num_tokens: float, tokens_per_sample: int) -> Critical | None:
    """The critical batch of a language model that is trained on ``num_tokens`` tokens; None for other models.

    The geometric mean of both laws; the interval reaches from half the smaller to twice the larger.
    """
    if model.family not in (ModelFamily.DECODER, ModelFamily.ENCODER_DECODER) or model.vocab_size <= 1:
        return None
    num_parameters = model_parameters(model).total
    is_fitted = num_parameters >= FITTED_PARAMETERS and num_tokens >= FITTED_TOKENS
    by_loss = kaplan_tokens(expected_loss(num_parameters, num_tokens))
    by_data = zhang_tokens(num_tokens)
    low, high = min(by_loss, by_data), max(by_loss, by_data)
    factor = LAW_FACTOR.value
    samples = Estimate(
        value=math.sqrt(low * high) / tokens_per_sample,
        low=low / factor / tokens_per_sample,
        high=high * factor / tokens_per_sample,
        origin=Origin.PUBLISHED if is_fitted else Origin.ASSUMED,
        source="mean of two laws: by loss (arXiv 2001.08361) and by data size (arXiv 2410.21676)"
        + ("" if is_fitted else ", far below the runs that they were fitted to"),
    )
    return Critical(samples=samples, constants=LAW_CONSTANTS)


def expected_loss(num_parameters: float, num_tokens: float) -> float:
    """Nats per token at the end of training: L = E + A/N^a + B/D^b [H]."""
    by_size = LOSS_PARAMETERS.value / math.pow(num_parameters, LOSS_PARAMETERS_POWER.value)
    by_data = LOSS_TOKENS.value / math.pow(num_tokens, LOSS_TOKENS_POWER.value)
    return LOSS_FLOOR.value + by_size + by_data


def kaplan_tokens(loss: float) -> float:
    """Critical batch in tokens at a loss in nats per token [K]."""
    return KAPLAN_TOKENS.value / math.pow(loss, 1.0 / KAPLAN_POWER.value)


def zhang_tokens(num_tokens: float) -> float:
    """Critical batch in tokens of a run of ``num_tokens`` [Z, Mc]: batch at 20 % overhead over 0.2."""
    sequences = ZHANG_SEQUENCES.value * math.pow(num_tokens / 1e6, ZHANG_POWER.value)
    return sequences * ZHANG_LENGTH.value / ZHANG_OVERHEAD_FRAC.value
