"""The end of a run in lines: what came out, and how the prediction did."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scheduler.entrypoints.cli.columns import table
from scheduler.entrypoints.cli.jobtext import against_prediction
from scheduler.entrypoints.cli.words import bytes_text, count_text, interval_text, seconds_text, usd_text
from trimtab.job import JobState
from trimtab.views import JobView

Style = Callable[..., str]

_PEAK = "peak_tensor_bytes_rank_"
_RESIDENT = "resident_bytes_rank_"
_END_STYLES = {JobState.SUCCEEDED: ("green", "bold"), JobState.FAILED: ("red", "bold")}


def summary_lines(view: JobView, *, style: Style) -> list[str]:
    """Result, speed and memory against the prediction, time and cost of a job that ended."""
    head = style(str(view.state), *_END_STYLES.get(view.state, ("bold",)))
    lines = [f"{head}  {view.name} ({view.id})"]
    if view.state is JobState.FAILED:
        lines.append(f"  {view.reason}: {view.detail}" if view.detail else f"  {view.reason}")
    rows = [*_result_rows(view.summary), *_speed_rows(view), *_time_rows(view)]
    lines += table([[f"  {name}", text] for name, text in rows])
    lines += _memory_lines(view)
    return lines


def _result_rows(figures: Mapping[str, float]) -> list[tuple[str, str]]:
    rows = []
    if "held_out_loss_nats" in figures:
        text = f"{figures['held_out_loss_nats']:.4f} nats a token"
        if "perplexity" in figures:
            text += f" (perplexity {figures['perplexity']:.2f})"
        rows.append(("held-out loss", text))
    if "trigram_loss_nats" in figures and "loss_margin_nats" in figures:
        rows.append(
            (
                "trigram model",
                f"{figures['trigram_loss_nats']:.4f} nats on the same tokens: {_margin(figures['loss_margin_nats'], 4, ' nats')}",
            )
        )
    if "bleu" in figures:
        rows.append(("BLEU", f"{figures['bleu']:.1f} on held-out templates"))
    if "lexicon_bleu" in figures:
        margin = f": {_margin(figures['bleu_margin'], 1, ' points')}" if "bleu_margin" in figures else ""
        rows.append(("word by word", f"BLEU {figures['lexicon_bleu']:.1f} by a lexicon learned from the same pairs{margin}"))
    return rows


def _margin(value: float, decimals: int, unit: str) -> str:
    return f"{abs(value):.{decimals}f}{unit} {'better' if value > 0 else 'worse'} than it"


def _speed_rows(view: JobView) -> list[tuple[str, str]]:
    figures, progress = view.summary, view.progress
    rows = []
    tokens_per_s = figures.get("tokens_per_s") or (progress.tokens_per_s if progress is not None else 0.0)
    if tokens_per_s:
        rows.append(("throughput", f"{count_text(tokens_per_s)} tokens/s"))
    measured_s = figures.get("step_median_s") or (progress.step_s if progress is not None else 0.0)
    predicted = view.predicted_step_s
    if measured_s:
        spread = ""
        if "step_low_quartile_s" in figures and "step_high_quartile_s" in figures:
            spread = (
                f", quartiles {seconds_text(figures['step_low_quartile_s'])} and {seconds_text(figures['step_high_quartile_s'])}"
            )
        rows.append(("step, measured", f"{seconds_text(measured_s)} (median{spread})"))
    if predicted is not None and predicted.value > 0:
        against = f"; measured {against_prediction(measured_s, predicted.value)}" if measured_s else ""
        rows.append(("step, predicted", f"{interval_text(predicted, 'seconds')}, 80 % interval{against}"))
    return rows


def _time_rows(view: JobView) -> list[tuple[str, str]]:
    rows = []
    if view.ended_at is not None:
        total_s = (view.ended_at - view.submitted_at).total_seconds()
        running_s = sum(
            ((attempt.released_at or view.ended_at) - attempt.assigned_at).total_seconds() for attempt in view.attempts
        )
        rows.append(("time", f"{seconds_text(total_s)} since the submit, {seconds_text(running_s)} with devices"))
    rows.append(("cost", usd_text(view.cost_usd)))
    tries = len(view.attempts)
    if tries > 1:
        rows.append(("tries", f"{tries}: {view.num_failures} failed, {view.num_losses} lost"))
    return rows


def _memory_lines(view: JobView) -> list[str]:
    """Predicted and measured peak of tensor bytes by rank, and the resident size beside it."""
    peaks, resident = _by_rank(view.summary, _PEAK), _by_rank(view.summary, _RESIDENT)
    progress = view.progress
    if not peaks and progress is not None:
        peaks, resident = dict(enumerate(progress.peak_memory_bytes)), dict(enumerate(progress.resident_bytes))
    ranks = sorted(set(peaks) | set(resident))
    if not ranks:
        return []
    per_stage = max(1, len(ranks) // max(1, len(view.predicted_memory)))
    rows = []
    for rank in ranks:
        stage = min(rank // per_stage, len(view.predicted_memory) - 1)
        predicted = view.predicted_memory[stage].total_bytes if view.predicted_memory else None
        measured = peaks.get(rank)
        rows.append(
            [
                f"  rank {rank}",
                interval_text(predicted, "bytes") if predicted is not None else "-",
                bytes_text(measured) if measured else "-",
                against_prediction(measured, predicted.value) if measured and predicted is not None else "-",
                bytes_text(resident[rank]) if rank in resident else "-",
            ]
        )
    header = ["  peak memory", "tensors, predicted", "measured", "off by", "resident size"]
    return table(rows, header=header, right=frozenset({1, 2, 3, 4}))


def _by_rank(figures: Mapping[str, float], prefix: str) -> dict[int, float]:
    found = {}
    for name, value in figures.items():
        rank = name.removeprefix(prefix)
        if name.startswith(prefix) and rank.isdigit():
            found[int(rank)] = value
    return found
