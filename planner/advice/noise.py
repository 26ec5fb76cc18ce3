"""Formulas of the gradient-noise scale: what a batch costs in steps and in samples, and how the scale is measured.

Sources: [Mc] McCandlish et al., arXiv 1812.06162, equations 2.11 and 2.12 (trade) and appendix A.1 (estimator); [Mu] Muennighoff
et al., arXiv 2305.16264, equation 5 (value of repeated data).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

REPEAT_VALUE = 15.0
"""Repetitions after which a token has lost 1 - 1/e of its value: R_D* is about 15 in the fit of [Mu], section 6."""


def steps_multiplier(batch: float, critical: float) -> float:
    """Steps over the least number that any batch needs: S/S_min = 1 + B_crit/B [Mc]. Both in samples (or both in tokens)."""
    return 1.0 + critical / batch


def examples_multiplier(batch: float, critical: float) -> float:
    """Samples over the least number that any batch needs: E/E_min = 1 + B/B_crit [Mc]."""
    return 1.0 + batch / critical


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTrade:
    """A run of ``num_steps`` steps of ``global_batch`` samples, and what other batches need for the same loss.

    ``critical`` in samples; None: nothing is known of other batches, and they are taken to need as many samples.
    """

    num_steps: int
    global_batch: int
    critical: float | None

    @property
    def num_samples(self) -> float:
        """Samples that the run asks for."""
        return float(self.num_steps) * self.global_batch

    def samples_at(self, batch: int) -> float:
        """Samples that batch ``batch`` needs: E(B) = E_min (1 + B/B_crit), with E_min from the run itself [Mc]."""
        if self.critical is None:
            return self.num_samples
        own = examples_multiplier(self.global_batch, self.critical)
        return self.num_samples * examples_multiplier(batch, self.critical) / own

    def steps_at(self, batch: int) -> int:
        """Optimizer steps that batch ``batch`` needs, rounded up."""
        return max(1, math.ceil(self.samples_at(batch) / batch - 1e-9))


def effective_samples(num_unique: float, num_seen: float) -> float:
    """Fresh samples that are worth as much as ``num_seen`` samples drawn from ``num_unique``: U + U R* (1 - exp(-R/R*)) [Mu].

    R = seen/unique - 1 repetitions; without repetition it is ``num_seen`` itself.
    """
    if num_seen <= num_unique:
        return num_seen
    repeats = num_seen / num_unique - 1.0
    return num_unique * (1.0 + REPEAT_VALUE * (1.0 - math.exp(-repeats / REPEAT_VALUE)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseEstimate:
    """``signal`` is the unbiased squared norm of the true gradient, ``noise`` the trace of the covariance of one sample's."""

    signal: float
    noise: float

    @property
    def scale(self) -> float | None:
        """B_simple = tr(Sigma)/|G|^2 in samples; None where the estimates are too noisy to give one (not both above 0)."""
        return self.noise / self.signal if self.signal > 0.0 and self.noise > 0.0 else None


def noise_scale(small_square: float, big_square: float, *, small_batch: float, big_batch: float) -> NoiseEstimate:
    """Unbiased estimates from squared gradient norms at two batch sizes in samples [Mc, A.1].

    ``|G|^2 = (B_big g_big - B_small g_small) / (B_big - B_small)`` and
    ``tr(Sigma) = (g_small - g_big) / (1/B_small - 1/B_big)``. Average both over steps before their ratio is taken.
    Raises ValueError where the small batch is not below the big one.
    """
    if not 0.0 < small_batch < big_batch:
        raise ValueError(f"the small batch ({small_batch}) must be above 0 and below the big one ({big_batch})")
    signal = (big_batch * big_square - small_batch * small_square) / (big_batch - small_batch)
    noise = (small_square - big_square) / (1.0 / small_batch - 1.0 / big_batch)
    return NoiseEstimate(signal=signal, noise=noise)
