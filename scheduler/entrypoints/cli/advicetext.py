"""Batch advice as a page: micro-batches, the global batch, what it does to time and cost, warnings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scheduler.entrypoints.cli.advising import Asked
from scheduler.entrypoints.cli.columns import table, wrapped
from scheduler.entrypoints.cli.planprint.numbers import origin_lines
from scheduler.entrypoints.cli.planprint.page import plain
from scheduler.entrypoints.cli.words import (
    bytes_text,
    count_text,
    digits,
    interval_text,
    percent_text,
    plural,
    seconds_text,
    usd_text,
)
from trimtab.estimate import Estimate
from trimtab.plan import FitVerdict

if TYPE_CHECKING:
    from scheduler.bootstrap import Advised, AdvisedPoint, AdvisedSplit

Style = Callable[..., str]
_FIT = {FitVerdict.FITS: "fits", FitVerdict.TIGHT: "tight", FitVerdict.DOES_NOT_FIT: "does not fit"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvicePage:
    """What is printed, and how."""

    advice: Advised
    asked: Asked
    width: int = 100
    style: Style = plain

    @property
    def tokens_per_sample(self) -> int:
        """Tokens of one sample of the job."""
        train = self.asked.order.spec.train
        assert train is not None
        return train.tokens_per_sample


def advice_lines(page: AdvicePage) -> list[str]:
    """The whole page."""
    order, advice = page.asked.order, page.advice
    title = f"Batch advice for {order.spec.name}"
    lines = [page.style(title, "bold") + f"  (trainer: {advice.framework}, optimize: {order.spec.optimize})", ""]
    lines += _batch_lines(page)
    lines += _micro_lines(page)
    lines += _sweep_lines(page)
    lines += _trade_lines(page)
    lines += _warning_lines(page)
    return lines + origin_lines(advice.rules, width=page.width, style=page.style)


def _batch_lines(page: AdvicePage) -> list[str]:
    advice, point, order = page.advice, page.advice.recommended, page.asked.order
    batch = f"{point.global_batch:,} samples, {count_text(point.global_batch * page.tokens_per_sample)} tokens"
    lines = [page.style("GLOBAL BATCH", "bold", "green") + f"  {batch}"]

    def line(name: str, text: str) -> None:
        lines.extend(wrapped(text, width=page.width, first=f"  {name:<11}"))

    line("on", f"{plural(point.num_devices, 'device')}, {order.device_type.name}, pool {order.pool.id}{_price(page)}")
    line("strategy", f"{point.strategy.label()}; memory {_FIT[point.fit]}")
    if advice.critical is None:
        line("why", "nothing is known of the critical batch, so the job's own is kept")
    else:
        line("critical", f"{_samples(advice.critical)}; {advice.critical.origin}: {advice.critical.source}")
        level = percent_text(advice.level_frac)
        line("why", f"the largest batch, not above the critical one, whose run is within {level} of the shortest here")
        low, high = advice.low_batch, advice.high_batch
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        line("range", f"{span} over the interval of the critical batch")
    line("run", f"{plural(point.num_steps, 'step')} of {interval_text(point.step_s, 'seconds')}: {_run(point)}")
    if advice.epochs is not None:
        line("data", f"{digits(advice.epochs)} passes over {order.data_samples or 0.0:,.0f} samples")
    else:
        line("data", "its size is not known: --data-size TOKENS checks passes and steps per pass")
    if advice.asked is not None and advice.asked.global_batch != point.global_batch:
        line(
            "the job's", f"{advice.asked.global_batch:,} samples, {plural(advice.asked.num_steps, 'step')}: {_run(advice.asked)}"
        )
    return [*lines, ""]


def _price(page: AdvicePage) -> str:
    order = page.asked.order
    if order.usd_per_device_hour is None:
        return "; no price is known"
    return f", {usd_text(order.usd_per_device_hour)} per device and hour ({order.price_source})"


def _samples(critical: Estimate) -> str:
    return f"{critical.value:,.0f} samples ({critical.low:,.0f} to {critical.high:,.0f})"


def _run(point: AdvisedPoint) -> str:
    cost = "" if point.cost_usd is None else f", {interval_text(point.cost_usd, 'usd')}"
    return interval_text(point.total_s, "seconds") + cost


def _micro_lines(page: AdvicePage) -> list[str]:
    advice = page.advice
    lines = [page.style("MICRO-BATCHES", "bold") + f"  at a global batch of {advice.recommended.global_batch:,}"]
    rows = [row for split in advice.splits for row in _split_rows(split)]
    header = ["split", "recompute", "largest", "micro", "step", "tokens/s", "memory", ""]
    return [*lines, *_indented(table(rows, header=header, right=frozenset({2, 3, 4, 5, 6}))), *_largest_note(page), ""]


def _split_rows(split: AdvisedSplit) -> list[list[str]]:
    rows = []
    for index, row in enumerate(split.rows):
        first = index == 0
        mark = " (best)" if row.micro_batch == split.best_micro_batch else ""
        rows.append(
            [
                _split_name(split) if first else "",
                str(split.strategy.recompute) if first else "",
                f"{split.largest_micro_batch:,}" if first else "",
                f"{row.micro_batch} × {row.num_micro_batches}",
                seconds_text(row.step_s.value),
                count_text(row.tokens_per_s),
                bytes_text(row.peak_bytes.value),
                _FIT[row.fit] + mark,
            ]
        )
    return rows


def _split_name(split: AdvisedSplit) -> str:
    """The degrees alone: micro-batch, recompute and precision have columns or stand above."""
    words = split.strategy.label().split()
    return " ".join(word for word in words[:-1] if not word.startswith(("mb", "re-")))


def _largest_note(page: AdvicePage) -> list[str]:
    text = "largest: the micro-batch that surely fits while gradients are accumulated, whatever the global batch; 0: none does"
    return wrapped(text, width=page.width, first="  ")


def _sweep_lines(page: AdvicePage) -> list[str]:
    advice = page.advice
    if len(advice.batches) < 2:
        return []
    best = advice.recommended
    least = min(point.num_samples for point in advice.batches)
    rows = [
        [
            f"{point.global_batch:,}",
            count_text(point.global_batch * page.tokens_per_sample),
            f"{point.num_steps:,}",
            f"{point.num_samples / least:.2f}",
            seconds_text(point.step_s.value),
            seconds_text(point.total_s.value),
            "" if point.cost_usd is None else usd_text(point.cost_usd.value),
            _marks(page, point),
        ]
        for point in advice.batches
    ]
    header = ["batch", "tokens", "steps", "samples", "step", "whole run", "cost", ""]
    title = page.style("GLOBAL BATCHES", "bold") + f"  on {plural(best.num_devices, 'device')}, to the same loss"
    return [title, *_indented(table(rows, header=header, right=frozenset(range(7)))), ""]


def _marks(page: AdvicePage, point: AdvisedPoint) -> str:
    marks = [] if point.fit is FitVerdict.FITS else [_FIT[point.fit]]
    if point.global_batch == page.advice.recommended.global_batch:
        marks.append("advised")
    if page.advice.asked is not None and point.global_batch == page.advice.asked.global_batch:
        marks.append("the job's")
    return ", ".join(marks)


def _trade_lines(page: AdvicePage) -> list[str]:
    advice = page.advice
    names = (("cheapest", advice.cheapest), ("knee", advice.knee), ("fastest", advice.fastest), ("advised", advice.recommended))
    points: Sequence[AdvisedPoint] = advice.trade
    if advice.recommended not in points:
        points = sorted([*points, advice.recommended], key=lambda point: -point.total_s.value)
    rows = [
        [
            f"{point.num_devices:,}",
            f"{point.global_batch:,}",
            point.strategy.label(),
            seconds_text(point.total_s.value),
            "" if point.cost_usd is None else usd_text(point.cost_usd.value),
            _against(point, advice.cheapest),
            ", ".join(name for name, marked in names if marked == point),
        ]
        for point in points
    ]
    header = ["devices", "batch", "strategy", "whole run", "cost", "", ""]
    title = page.style("TIME AGAINST COST", "bold") + "  each number of devices at its own best batch"
    return [title, *_indented(table(rows, header=header, right=frozenset({0, 1, 3, 4}))), ""]


def _against(point: AdvisedPoint, base: AdvisedPoint) -> str:
    if point == base:
        return ""
    time = percent_text(abs(point.total_s.value / base.total_s.value - 1.0))
    words = f"{time} {'less' if point.total_s.value < base.total_s.value else 'more'} time"
    if point.cost_usd is None or base.cost_usd is None or base.cost_usd.value <= 0.0:
        return words
    ratio = point.cost_usd.value / base.cost_usd.value - 1.0
    return f"{words}, {percent_text(abs(ratio))} {'more' if ratio >= 0 else 'less'} cost"


def _warning_lines(page: AdvicePage) -> list[str]:
    if not page.advice.warnings:
        return []
    lines = [page.style("WARNINGS", "bold", "yellow")]
    for warning in page.advice.warnings:
        lines += wrapped(f"{warning.kind}: {warning.text}", width=page.width, first="  - ")
    return [*lines, ""]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]
