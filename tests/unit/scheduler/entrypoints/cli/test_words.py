"""Numbers, times and strategies as text."""

from __future__ import annotations

import math

import pytest

from scheduler.entrypoints.cli.columns import bar, table, wrapped
from scheduler.entrypoints.cli.words import (
    age_text,
    bytes_text,
    count_text,
    digits,
    interval_text,
    percent_text,
    plural,
    seconds_text,
    strategy_words,
    usd_text,
)
from trimtab.estimate import Estimate, Origin
from trimtab.strategy import PipelineSchedule, Recompute, Strategy


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00123, "0.00123"),
        (1.0, "1.00"),
        (12.34, "12.3"),
        (999.4, "999"),
        (12345.6, "12,346"),
        (1e-7, "1.00e-07"),
        (math.inf, "inf"),
    ],
)
def test_digits(value: float, text: str) -> None:
    assert digits(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1024, "1.00 KiB"),
        (1023 * 1024, "0.999 MiB"),
        (61.3 * 2**30, "61.3 GiB"),
        (2**60, "1,024 PiB"),
    ],
)
def test_bytes(value: float, text: str) -> None:
    assert bytes_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        (7.25, "7.25"),
        (999, "999"),
        (1000, "1.00k"),
        (999_999, "1.00M"),
        (8.03e9, "8.03G"),
        (5e20, "500,000P"),
    ],
)
def test_counts(value: float, text: str) -> None:
    assert count_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (4.12e-4, "412 µs"),
        (0.0841, "84.1 ms"),
        (4.21, "4.21 s"),
        (119.4, "119 s"),
        (119.6, "2m 00s"),
        (200, "3m 20s"),
        (7169.9, "119m 30s"),
        (18_720, "5h 12m"),
        (3 * 86_400 + 4 * 3600, "3d 04h"),
        (math.inf, "never"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert seconds_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "$0"),
        (0.00003, "<$0.0001"),
        (0.0031, "$0.0031"),
        (4.2, "$4.20"),
        (99.6, "$100"),
        (1234.4, "$1,234"),
        (math.inf, "unknown"),
    ],
)
def test_money(value: float, text: str) -> None:
    assert usd_text(value) == text


@pytest.mark.parametrize(
    ("estimate", "unit", "text"),
    [
        ((4.2, 3.9, 4.6), "seconds", "4.20 s (3.90–4.60)"),
        ((0.43, 0.215, 1.2), "seconds", "430 ms (215–1,200)"),
        ((220_000, 158_000, 281_000), "seconds", "61.1 h (43.9–78.1)"),
        ((2e6, 1e6, 3e6), "seconds", "23.1 d (11.6–34.7)"),
        ((600, 600, 600), "seconds", "10.0 min"),
        ((624, 549, 699), "usd", "$624 ($549–$699)"),
        ((94.3 * 2**20, 89.6 * 2**20, 99 * 2**20), "bytes", "94.3 MiB (89.6–99.0)"),
    ],
)
def test_intervals_share_one_unit(estimate: tuple[float, float, float], unit: str, text: str) -> None:
    value, low, high = estimate
    assert interval_text(Estimate(value=value, low=low, high=high, origin=Origin.ASSUMED), unit) == text


def test_small_words() -> None:
    assert [percent_text(frac) for frac in (0, 0.009, 0.76, math.nan)] == ["0 %", "0.90 %", "76 %", "unknown"]
    assert [age_text(s) for s in (-1, 12, 240, 10_800, 500_000)] == ["0s", "12s", "4m", "3h", "6d"]
    assert [plural(1, "device"), plural(2, "device"), plural(0, "loss", "losses")] == ["1 device", "2 devices", "0 losses"]


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (Strategy(), "one rank does everything"),
        (Strategy(dp=4), "4 replicas share each batch (data parallel)"),
        (Strategy(fsdp=2, zero_stage=2), "2 ranks share each batch and hold optimizer state and gradients in shards (FSDP)"),
        (Strategy(tp=2), "each layer's matrices split over 2 ranks (tensor parallel)"),
        (Strategy(pp=2, schedule=PipelineSchedule.GPIPE), "layers in 2 stages (pipeline, all forward, then all backward)"),
        (Strategy(cp=2), "each sequence split over 2 ranks (context parallel)"),
        (Strategy(micro_batch=2, num_micro_batches=4), "global batch 8: 8 on each data rank, in 4 micro-batches of 2 samples"),
        (
            Strategy(recompute=Recompute.FULL),
            "each layer's activations recomputed in the backward pass; matrix multiplications in fp32",
        ),
    ],
)
def test_every_choice_of_a_strategy_is_said(strategy: Strategy, words: str) -> None:
    assert words in strategy_words(strategy)


def test_tables_align_and_cut_nothing() -> None:
    lines = table([["a", "1"], ["long name", "1,000"]], header=["NAME", "N"], right=frozenset({1}))
    assert lines == ["NAME           N", "a              1", "long name  1,000"]
    assert table([]) == []


def test_text_is_wrapped_behind_its_label_and_words_stay_whole() -> None:
    lines = wrapped("a word-with-hyphens " * 4, width=30, first="  why  ")
    assert all(len(line) <= 30 for line in lines)
    assert [line[:7] for line in lines[1:]] == ["       "] * (len(lines) - 1)
    assert wrapped("x" * 60, width=30, first="> ") == ["> " + "x" * 60]


def test_bars_grow_by_eighths() -> None:
    assert [bar(frac, 4) for frac in (0, 1 / 32, 0.5, 1, 7)] == ["", "▏", "██", "████", "████"]
