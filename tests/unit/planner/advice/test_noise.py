"""The formulas of the gradient-noise scale and the critical batch against values worked out by hand."""

from __future__ import annotations

import math
import random

import pytest

from planner.advice import BatchTrade, effective_samples, examples_multiplier, noise_scale, steps_multiplier
from planner.advice.critical import (
    LAW_CONSTANTS,
    critical_batch,
    expected_loss,
    kaplan_tokens,
    measured_batch,
    zhang_tokens,
)
from tests.support.planning import LLAMA_8B, as_encoder, tiny_model, tiny_translator
from trimtab.estimate import Origin


def test_at_the_critical_batch_both_steps_and_samples_double() -> None:
    assert steps_multiplier(100, 100) == 2.0
    assert examples_multiplier(100, 100) == 2.0
    assert steps_multiplier(25, 100) == 5.0
    assert examples_multiplier(25, 100) == 1.25


@pytest.mark.parametrize("batch", [1, 7, 64, 1000, 50_000])
def test_the_trade_is_a_hyperbola(batch: int) -> None:
    """(S/S_min - 1)(E/E_min - 1) = 1, equation 2.11 of arXiv 1812.06162."""
    assert (steps_multiplier(batch, 300) - 1) * (examples_multiplier(batch, 300) - 1) == pytest.approx(1.0)


def test_a_run_moved_to_another_batch() -> None:
    """1,000 steps of 100 at B_crit 100: E_min is 50,000 and S_min 500."""
    run = BatchTrade(num_steps=1000, global_batch=100, critical=100.0)
    assert run.num_samples == 100_000
    assert run.samples_at(50) == pytest.approx(75_000)
    assert run.steps_at(50) == 1500
    assert run.samples_at(300) == pytest.approx(200_000)
    assert run.steps_at(300) == 667
    assert run.steps_at(100) == 1000


def test_larger_batches_take_fewer_steps_and_more_samples() -> None:
    run = BatchTrade(num_steps=10_000, global_batch=128, critical=476.0)
    batches = [1 << power for power in range(14)]
    steps, samples = [run.steps_at(b) for b in batches], [run.samples_at(b) for b in batches]
    assert steps == sorted(steps, reverse=True)
    assert samples == sorted(samples)


def test_without_a_critical_batch_samples_stay() -> None:
    run = BatchTrade(num_steps=10, global_batch=30, critical=None)
    assert run.steps_at(100) == 3
    assert run.samples_at(100) == 300


def test_repeated_data_is_worth_less_each_time() -> None:
    assert effective_samples(100, 80) == 80
    assert effective_samples(100, 100) == 100
    assert effective_samples(100, 400) == pytest.approx(100 * (1 + 15 * (1 - math.exp(-3 / 15))))
    assert effective_samples(100, 400) > 0.92 * 400, "four epochs cost little"
    assert effective_samples(100, 1e9) == pytest.approx(1600)


def test_the_noise_of_two_norms_by_hand() -> None:
    """|G|^2 = 4 and tr(Sigma) = 32: squared norms are 4 + 32/2 = 20 at batch 2, 4 + 32/8 = 8 at batch 8."""
    found = noise_scale(20.0, 8.0, small_batch=2, big_batch=8)
    assert found.signal == pytest.approx(4.0)
    assert found.noise == pytest.approx(32.0)
    assert found.scale == pytest.approx(8.0)


def test_the_estimator_is_unbiased() -> None:
    """Gradients of 6 numbers drawn around a known mean with a known spread; averages over 4,000 steps come back."""
    chance = random.Random(7)
    mean, spread, small, big = [1.0, -0.5, 0.0, 0.25, 2.0, -1.0], 1.5, 4, 16
    signal = noise = 0.0
    for _ in range(4000):
        samples = [[m + chance.gauss(0, spread) for m in mean] for _ in range(big)]
        squares = [sum((sum(row[i] for row in samples[:size]) / size) ** 2 for i in range(len(mean))) for size in (small, big)]
        found = noise_scale(*squares, small_batch=small, big_batch=big)
        signal, noise = signal + found.signal / 4000, noise + found.noise / 4000
    assert signal == pytest.approx(sum(m * m for m in mean), rel=0.03)
    assert noise == pytest.approx(len(mean) * spread**2, rel=0.03)


def test_norms_that_contradict_noise_give_no_scale() -> None:
    assert noise_scale(1.0, 2.0, small_batch=1, big_batch=2).scale is None
    with pytest.raises(ValueError, match="below the big"):
        noise_scale(1.0, 1.0, small_batch=2, big_batch=2)


def test_the_laws_by_hand() -> None:
    """Llama-3 8B on 15 G tokens."""
    loss = expected_loss(8.03e9, 15e9)
    assert loss == pytest.approx(1.69 + 0.175 + 0.582, abs=0.002)
    assert kaplan_tokens(1.0) == 2e8
    assert kaplan_tokens(2.0) == pytest.approx(2e8 / 2 ** (1 / 0.21))
    assert zhang_tokens(1e6) == pytest.approx(22.91 * 512 * 5)
    assert zhang_tokens(2e12) / zhang_tokens(1e12) == pytest.approx(2**0.47)
    found = critical_batch(LLAMA_8B, num_tokens=15e9, tokens_per_sample=8192)
    assert found is not None
    assert found.samples.value == pytest.approx(math.sqrt(kaplan_tokens(loss) * zhang_tokens(15e9)) / 8192, rel=1e-3)
    assert found.samples.origin is Origin.PUBLISHED
    assert found.constants == LAW_CONSTANTS


def test_the_fits_over_data_and_over_parameters_agree_where_they_meet() -> None:
    """The source fits 93.20 N^0.47 (millions) along 20 tokens per parameter; there both laws are one."""
    for parameters in (85.0, 302.0, 1200.0):
        along = 93.20 * parameters**0.47 * 512 * 5
        assert zhang_tokens(20 * parameters * 1e6) == pytest.approx(along, rel=0.01)


def test_both_laws_lie_inside_the_interval_and_rise_with_data() -> None:
    before = 0.0
    for num_tokens in (1e8, 1e9, 1e10, 1e11, 1e12, 1e13):
        found = critical_batch(LLAMA_8B, num_tokens=num_tokens, tokens_per_sample=1)
        assert found is not None
        by_loss = kaplan_tokens(expected_loss(8.03e9, num_tokens))
        assert found.samples.low < by_loss < found.samples.high
        assert found.samples.low < zhang_tokens(num_tokens) < found.samples.high
        assert found.samples.value > before
        before = found.samples.value


def test_far_below_the_fitted_runs_the_laws_are_an_assumption() -> None:
    for model in (tiny_model(), tiny_translator()):
        found = critical_batch(model, num_tokens=1e6, tokens_per_sample=64)
        assert found is not None
        assert found.samples.origin is Origin.ASSUMED
        assert "far below" in found.samples.source


def test_other_models_have_no_law() -> None:
    assert critical_batch(as_encoder(tiny_model()), num_tokens=1e9, tokens_per_sample=64) is None


def test_a_measured_scale_stands_for_itself() -> None:
    found = measured_batch(300.0)
    assert (found.samples.low, found.samples.value, found.samples.high) == (150.0, 300.0, 600.0)
    assert found.samples.origin is Origin.MEASURED
    with pytest.raises(ValueError, match="above 0"):
        measured_batch(0.0)
