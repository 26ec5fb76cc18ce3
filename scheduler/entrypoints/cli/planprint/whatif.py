"""The plan as it is and the plans of changed worlds, in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scheduler.entrypoints.cli.columns import table, wrapped
from scheduler.entrypoints.cli.words import change_text, interval_text, usd_text
from trimtab.plan import Candidate, Unplaced

Style = Callable[..., str]
_HEADER = ("", "OFFER", "DEVICES", "STEP", "", "WHOLE RUN", "", "COST", "", "STRATEGY")
_RIGHT = frozenset({3, 4, 5, 6, 7, 8})
_MIN_STRATEGY_WIDTH = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfRow:
    """One world: its name, and the chosen candidate or why there is none."""

    name: str
    candidate: Candidate | None
    unplaced: Unplaced | None = None


def whatif_lines(rows: Sequence[WhatIfRow], *, wide: bool, width: int, style: Style) -> list[str]:
    """The first row is the plan as it is; the others say how they differ from it. ``wide`` shows the 80 % intervals."""
    base = rows[0].candidate
    cells = [_cells(row.candidate, base if index else None, wide=wide) for index, row in enumerate(rows)]
    head = [[row.name, *cell] for row, cell in zip(rows, cells, strict=True)]
    aligned = table(head, header=_HEADER[:-1], right=_RIGHT)
    indent = max(len(line) for line in aligned) + 2
    room = max(_MIN_STRATEGY_WIDTH, width - indent - 2)
    lines = [style("WHAT IF", "bold"), f"  {aligned[0].ljust(indent)}{_HEADER[-1]}"]
    for row, line in zip(rows, aligned[1:], strict=True):
        if row.candidate is None:
            lines += wrapped(_why_not(row.unplaced), width=width, first=f"  {row.name.ljust(_name_width(rows))}")
            continue
        first, *rest = wrapped(_strategy(row.candidate), width=room)
        lines.append(f"  {line.ljust(indent)}{first}".rstrip())
        lines += [" " * (indent + 2) + more for more in rest]
    return [*lines, ""]


def _cells(candidate: Candidate | None, base: Candidate | None, *, wide: bool) -> list[str]:
    if candidate is None:
        return [""] * (len(_HEADER) - 2)
    shape = candidate.shape
    out = [str(candidate.offer_id), f"{shape.num_nodes} × {shape.devices_per_node}"]
    for name, unit in (("step_s", "seconds"), ("total_s", "seconds"), ("cost_usd", "usd")):
        estimate = getattr(candidate, name)
        known = estimate.value > 0
        text = interval_text(estimate, unit) if known else "unknown"
        short = usd_text(estimate.value) if unit == "usd" else text.partition(" (")[0]
        out.append(text if wide or not known else short)
        before = getattr(base, name).value if base is not None else 0.0
        out.append(change_text(estimate.value, before) if known and before > 0 else "")
    return out


def _name_width(rows: Sequence[WhatIfRow]) -> int:
    return max(len(row.name) for row in rows) + 2


def _strategy(candidate: Candidate) -> str:
    return candidate.strategy.label() if candidate.strategy is not None else "-"


def _why_not(found: Unplaced | None) -> str:
    if found is None:
        return "not placed"
    change = f"; smallest change: {found.smallest_change}" if found.smallest_change else ""
    return f"not placed: {found.reason}: {found.detail}{change}"
