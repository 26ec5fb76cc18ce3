"""Memory per rank, step time part by part, and where the constants come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scheduler.entrypoints.cli.columns import bar, table, wrapped
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
from scheduler.service.figures import MEMORY_PARTS
from trimtab.estimate import Constant, Estimate, Origin
from trimtab.inventory import Inventory
from trimtab.jobspec import JobSpec
from trimtab.plan import Candidate, RankMemory

Style = Callable[..., str]
_MAX_STAGES = 6
_MAX_NAME_WIDTH = 44
_ORIGIN_WIDTH = 12
_VALUE_WIDTH = 10
_BAR_WIDTH = 30


def memory_lines(candidate: Candidate, inventory: Inventory, *, style: Style) -> list[str]:
    """Predicted bytes of a rank, part by part, one column per pipeline stage (first, last and fullest where there are many)."""
    if not candidate.memory:
        return []
    stages = _stages_shown(candidate.memory)
    device_type = inventory.device_type(inventory.pool(candidate.pool_id).device_type)
    header = ["", "every rank"] if len(candidate.memory) == 1 else ["", *(f"stage {memory.stage}" for memory in stages)]
    rows: list[list[str]] = []
    for name, attribute in MEMORY_PARTS:
        values = [float(getattr(memory, attribute)) for memory in stages]
        if any(values):
            rows.append([f"  {name}", *(bytes_text(value) for value in values)])
    rows.append(["  total of tensors", *(bytes_text(memory.total_bytes.value) for memory in stages)])
    rows.append(["  80 % interval", *(_span(memory.total_bytes) for memory in stages)])
    rows.append(["  of the device", *(percent_text(m.total_bytes.value / device_type.memory_bytes) for m in stages)])
    if any(memory.resident_bytes for memory in stages):
        rows.append(["  process beside tensors", *(bytes_text(memory.resident_bytes) for memory in stages)])
    if any(memory.allocator_bytes.value for memory in stages):
        rows.append(["  holes between tensors", *(_span(memory.allocator_bytes) for memory in stages)])
    lines = table(rows, header=header, right=frozenset(range(1, len(header))))
    title = style("MEMORY OF A RANK", "bold") + f"  predicted; a {device_type.name} has {bytes_text(device_type.memory_bytes)}"
    skipped = len(candidate.memory) - len(stages)
    note = [style(f"  {plural(skipped, 'stage')} between them left out", "dim")] if skipped else []
    origin = candidate.memory[0].total_bytes
    return [title, *lines, *note, *_rests_on(origin, style), ""]


def time_lines(candidate: Candidate, spec: JobSpec, *, style: Style) -> list[str]:
    """The predicted step, part by part."""
    if not candidate.time_parts:
        return []
    total = candidate.step_s.value or 1.0
    lines = [style("STEP TIME", "bold") + f"  {interval_text(candidate.step_s, 'seconds')}, 80 % interval"]
    parts = [part for part in candidate.time_parts if part.seconds > 0]
    name_width = max((len(part.name) for part in parts), default=0)
    for part in parts:
        share = part.seconds / total
        left = f"  {part.name.ljust(name_width)}  {seconds_text(part.seconds):>9}  {percent_text(share):>6}"
        lines.append(f"{left}  {style(bar(share, _BAR_WIDTH), 'cyan')}".rstrip())
    if spec.train is not None:
        steps_s = spec.train.num_steps * candidate.step_s.value
        rest_s = candidate.total_s.value - steps_s
        text = f"{spec.train.num_steps:,} steps × {seconds_text(candidate.step_s.value)} = {seconds_text(steps_s)}"
        if rest_s > 0:
            text += f", and {seconds_text(rest_s)} for start, evaluation and checkpoints"
        lines.append(f"  {text}")
        lines += _run_lines(candidate)
    return [*lines, *_rests_on(candidate.step_s, style), ""]


def _run_lines(candidate: Candidate) -> list[str]:
    """What the run takes beside its steps, and what that costs; the reading of samples."""
    lines = []
    per_second = candidate.price_usd_per_hour / 3600.0
    width = max((len(part.name) for part in candidate.run_parts), default=0)
    for part in candidate.run_parts:
        lines.append(f"    {part.name.ljust(width)}  {seconds_text(part.seconds):>9}  {usd_text(part.seconds * per_second):>9}")
    if candidate.input_s > 0.0:
        lines.append(f"  reading the samples of a step takes {seconds_text(candidate.input_s)}, beside the step before it")
    if candidate.restart_read_s > 0.0:
        lines.append(f"  reading the last checkpoint adds {seconds_text(candidate.restart_read_s)} to a restart")
    return lines


def origin_lines(constants: Sequence[Constant], *, width: int, style: Style) -> list[str]:
    """Every constant that the predictions used, by origin and source."""
    if not constants:
        return []
    lines = [style("WHERE THE NUMBERS COME FROM", "bold")]
    rank = {origin: index for index, origin in enumerate(Origin)}
    groups: dict[tuple[Origin, str], list[Constant]] = {}
    for constant in constants:
        groups.setdefault((constant.origin, constant.source), []).append(constant)
    name_width = min(_MAX_NAME_WIDTH, max(len(constant.name) for constant in constants))
    for (origin, source), members in sorted(groups.items(), key=lambda item: rank[item[0][0]]):
        colour = {Origin.MEASURED: "green", Origin.CALIBRATED: "green", Origin.PUBLISHED: "cyan", Origin.ASSUMED: "yellow"}[
            origin
        ]
        mark = style(origin.value, colour) + " " * (_ORIGIN_WIDTH - len(origin.value))
        room = width - 2 - _ORIGIN_WIDTH - name_width - _VALUE_WIDTH - 2
        sources = wrapped(source or "no source named", width=room)
        for index in range(max(len(members), len(sources))):
            cell = f"{members[index].name.ljust(name_width)}{_value(members[index])}" if index < len(members) else ""
            text = cell.ljust(name_width + _VALUE_WIDTH + 2) + (sources[index] if index < len(sources) else "")
            lines.append(f"  {mark if index == 0 else ' ' * _ORIGIN_WIDTH}{text}".rstrip())
    return [*lines, ""]


def _value(constant: Constant) -> str:
    text = count_text(constant.value) if abs(constant.value) >= 1e5 else digits(constant.value, 4)
    return text.rjust(_VALUE_WIDTH) + "  "


def _stages_shown(memory: Sequence[RankMemory]) -> list[RankMemory]:
    if len(memory) <= _MAX_STAGES:
        return list(memory)
    fullest = max(memory, key=lambda rank: rank.total_bytes.value)
    shown = {0, 1, memory.index(fullest), len(memory) - 1}
    return [memory[index] for index in sorted(shown)]


def _span(estimate: Estimate) -> str:
    low, high = bytes_text(estimate.low), bytes_text(estimate.high)
    number, _, unit = high.partition(" ")
    return f"{low.removesuffix(' ' + unit)}–{number} {unit}" if low.endswith(unit) else f"{low}–{high}"


def _rests_on(estimate: Estimate, style: Style) -> list[str]:
    source = f": {estimate.source}" if estimate.source else ""
    return [style(f"  {estimate.origin}{source}", "dim")]
