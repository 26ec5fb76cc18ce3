"""The chosen candidate and the next best ones, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scheduler.entrypoints.cli.words import (
    bytes_text,
    count_text,
    digits,
    interval_text,
    percent_text,
    usd_text,
)
from trimtab.estimate import Estimate
from trimtab.inventory import Inventory
from trimtab.jobspec import JobSpec
from trimtab.plan import Assignment, Candidate, FitVerdict

Style = Callable[..., str]
_ORDINALS = ("CHOSEN", "2nd", "3rd")
_LABEL_WIDTH = 15
_STRATEGY_WIDTH = 24


def comparison_lines(assignment: Assignment, spec: JobSpec, inventory: Inventory, *, num_choices: int, style: Style) -> list[str]:
    """Columns of at most ``num_choices`` candidates with their predicted figures and what they lose against the chosen one."""
    choices = [assignment.candidate, *assignment.alternatives[: max(0, num_choices - 1)]]
    chosen = choices[0]
    rows: list[tuple[str, list[str]]] = [
        ("offer", [str(c.offer_id) for c in choices]),
        ("devices", [f"{c.shape.num_nodes} × {c.shape.devices_per_node}" for c in choices]),
    ]
    if chosen.strategy is not None:
        rows += _strategy_rows(choices)
    if chosen.step_s.value > 0:
        rows.append(("step time", [interval_text(c.step_s, "seconds") for c in choices]))
    if spec.train is not None:
        per_step = spec.train.tokens_per_step
        rows.append(("tokens/s", [count_text(per_step / c.step_s.value) if c.step_s.value > 0 else "" for c in choices]))
    if any(c.memory for c in choices):
        rows.append(("memory, worst", [_memory(c, inventory) for c in choices]))
    if chosen.total_s.value > 0:
        rows.append(("whole run", [interval_text(c.total_s, "seconds") for c in choices]))
        rows.append(("", ["", *(_against(c.total_s, chosen.total_s, "time") for c in choices[1:])]))
        rows.append(("cost", [interval_text(c.cost_usd, "usd") for c in choices]))
        rows.append(("", ["", *(_against(c.cost_usd, chosen.cost_usd, "cost") for c in choices[1:])]))
    rows.append(("price", [f"{usd_text(c.price_usd_per_hour)}/h" for c in choices]))
    rows.append(("rests on", [_origin(c) for c in choices]))
    lines = _columns([_ordinal(i) for i in range(len(choices))], rows, style)
    if len(choices) == 1:
        lines.append(style("  no other candidate of this job is feasible and different", "dim"))
    return [*lines, ""]


def _strategy_rows(choices: Sequence[Candidate]) -> list[tuple[str, list[str]]]:
    labels = [_split(c.strategy.label() if c.strategy else "") for c in choices]
    depth = max(len(label) for label in labels)
    rows = [
        ("strategy" if row == 0 else "", [label[row] if row < len(label) else "" for label in labels]) for row in range(depth)
    ]
    batches = []
    for candidate in choices:
        s = candidate.strategy
        batches.append(f"{s.micro_batch} × {s.num_micro_batches} / {s.global_batch:,}" if s else "")
    rows.append(("micro / global", batches))
    return rows


def _split(label: str) -> list[str]:
    """A label in lines that fit the column."""
    lines: list[str] = []
    for word in label.split():
        if lines and len(lines[-1]) + 1 + len(word) <= _STRATEGY_WIDTH:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines or [""]


def _columns(header: list[str], rows: list[tuple[str, list[str]]], style: Style) -> list[str]:
    rows = [(label, cells) for label, cells in rows if label or any(cells)]
    widths = [max(len(cells[i]) for cells in [header, *(cells for _, cells in rows)]) for i in range(len(header))]
    padded = [style(head, "bold") + " " * (width - len(head)) for head, width in zip(header, widths, strict=True)]
    lines = [("  " + " " * _LABEL_WIDTH + "  ".join(padded)).rstrip()]
    for label, cells in rows:
        body = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        lines.append(f"  {style(label, 'dim')}{' ' * (_LABEL_WIDTH - len(label))}{body}".rstrip())
    return lines


def _ordinal(index: int) -> str:
    return _ORDINALS[index] if index < len(_ORDINALS) else f"{index + 1}th"


def _memory(candidate: Candidate, inventory: Inventory) -> str:
    if not candidate.memory:
        return ""
    worst = max(rank.total_bytes.value for rank in candidate.memory)
    capacity = inventory.device_type(inventory.pool(candidate.pool_id).device_type).memory_bytes
    mark = {FitVerdict.FITS: "", FitVerdict.TIGHT: " tight", FitVerdict.DOES_NOT_FIT: " over"}[candidate.fit]
    return f"{bytes_text(worst)} ({percent_text(worst / capacity)}){mark}"


def _against(other: Estimate, chosen: Estimate, word: str) -> str:
    """How the other compares: ``12 % more time``, ``2.1 times the cost``, ``the same cost``."""
    if chosen.value <= 0:
        return ""
    ratio = other.value / chosen.value
    if abs(ratio - 1) < 0.0005:
        return f"the same {word}"
    if ratio >= 2:
        return f"{digits(ratio, 2)} times the {word}"
    return f"{percent_text(abs(ratio - 1))} {'more' if ratio > 1 else 'less'} {word}"


def _origin(candidate: Candidate) -> str:
    return f"{candidate.step_s.origin}" if candidate.step_s.value > 0 else "no prediction"
