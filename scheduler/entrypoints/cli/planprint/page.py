"""The page of one unit's plan, section by section."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scheduler.entrypoints.cli.columns import wrapped
from scheduler.entrypoints.cli.planprint.comparison import comparison_lines
from scheduler.entrypoints.cli.planprint.numbers import memory_lines, origin_lines, time_lines
from scheduler.entrypoints.cli.planprint.proof import basis_lines, objective_lines, rejection_lines
from scheduler.entrypoints.cli.words import bytes_text, percent_text, plural, strategy_words, usd_text
from trimtab.ids import UnitId
from trimtab.inventory import Inventory
from trimtab.job import DeviceRef
from trimtab.jobspec import JobSpec
from trimtab.plan import Assignment, Candidate, FitVerdict, Placement, Plan, Unplaced

Style = Callable[..., str]
_MAX_NODES_SHOWN = 4


def plain(text: str, *_names: str) -> str:
    """The style of a pipe: none."""
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPage:
    """What is printed: the plan, the unit that it was asked for, and what the numbers are read against.

    ``num_choices`` columns stand side by side; ``style`` colours a text; ``width`` is in characters.
    """

    plan: Plan
    unit_id: UnitId
    spec: JobSpec
    inventory: Inventory
    num_choices: int = 3
    width: int = 100
    style: Style = plain


def unit_of(plan: Plan, *, known: frozenset[UnitId] = frozenset()) -> UnitId:
    """The unit that a plan was asked for: the only one that nobody knew before. Raises ValueError where there is no such one."""
    units = dict.fromkeys([*(a.unit_id for a in plan.assignments), *(u.unit_id for u in plan.unplaced)])
    fresh = [unit for unit in units if unit not in known]
    if len(fresh) != 1:
        raise ValueError(f"plan {plan.id} has {len(fresh)} units that were not known before")
    return fresh[0]


def plan_lines(page: PlanPage) -> list[str]:
    """The whole page."""
    assignment = page.plan.assignment(page.unit_id)
    title = f"Plan {page.plan.id} for {page.spec.name}"
    lines = [page.style(title, "bold") + f"  ({page.spec.kind}, optimize: {page.spec.optimize})", ""]
    if assignment is None:
        lines += _unplaced_lines(page)
    else:
        lines += _chosen_lines(page, assignment)
        lines += comparison_lines(assignment, page.spec, page.inventory, num_choices=page.num_choices, style=page.style)
        lines += memory_lines(assignment.candidate, page.inventory, style=page.style)
        lines += time_lines(assignment.candidate, page.spec, style=page.style)
    lines += rejection_lines(page.plan, page.unit_id, width=page.width, style=page.style)
    lines += objective_lines(page.plan, width=page.width, style=page.style)
    lines += origin_lines(page.plan.constants, width=page.width, style=page.style)
    lines += basis_lines(page.plan, page.inventory, width=page.width, style=page.style)
    return lines


def _chosen_lines(page: PlanPage, assignment: Assignment) -> list[str]:
    candidate = assignment.candidate
    label = candidate.strategy.label() if candidate.strategy else plural(candidate.shape.num_devices, "device")
    lines = [page.style("CHOSEN", "bold", "green") + f"  {label}"]
    lines += wrapped(_where(page.inventory, candidate), width=page.width, first="  where      ")
    for index, text in enumerate(_placement_texts(assignment.placement)):
        lines += wrapped(text, width=page.width, first="  placement  " if index == 0 else " " * 13)
    if candidate.strategy is not None:
        for index, text in enumerate(strategy_words(candidate.strategy)):
            lines += wrapped(text, width=page.width, first="  how        " if index == 0 else " " * 13)
    if candidate.memory:
        lines += wrapped(_fit_text(page.inventory, candidate), width=page.width, first="  memory     ")
    return [*lines, ""]


def _where(inventory: Inventory, candidate: Candidate) -> str:
    pool = inventory.pool(candidate.pool_id)
    shape = candidate.shape
    devices = f"{plural(shape.num_nodes, 'node')} × {plural(shape.devices_per_node, 'device')}"
    offer = next((offer for offer in inventory.offers if offer.id == candidate.offer_id), None)
    text = f"{devices} of type {pool.device_type} in pool {pool.id} ({pool.zone})"
    if offer is None:
        return f"{text}, offer {candidate.offer_id}, {usd_text(candidate.price_usd_per_hour)}/h"
    price = f"{usd_text(offer.price_usd_per_device_hour)} per device-hour, {usd_text(candidate.price_usd_per_hour)}/h in all"
    return f"{text}; {offer.market} at {price} ({offer.source}, {offer.retrieved_on})"


def _placement_texts(placement: Placement) -> list[str]:
    by_node: dict[str, list[tuple[int, DeviceRef]]] = {}
    for rank, device in enumerate(placement.devices):
        by_node.setdefault(device.node_id, []).append((rank, device))
    out = []
    for node, members in list(by_node.items())[:_MAX_NODES_SHOWN]:
        ranks, devices = [rank for rank, _ in members], [device.index for _, device in members]
        rank_word = "rank" if len(ranks) == 1 else "ranks"
        device_word = "device" if len(devices) == 1 else "devices"
        out.append(f"{rank_word} {_ranges(ranks)} on {device_word} {_ranges(devices)} of node {node}")
    if len(by_node) > _MAX_NODES_SHOWN:
        out.append(f"and {plural(len(by_node) - _MAX_NODES_SHOWN, 'more node', 'more nodes')} in the same way")
    return out


def _ranges(numbers: list[int]) -> str:
    """``0 1 2 5`` as ``0–2, 5``, in the order given."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def _fit_text(inventory: Inventory, candidate: Candidate) -> str:
    worst = max(candidate.memory, key=lambda rank: rank.total_bytes.value)
    capacity = inventory.device_type(inventory.pool(candidate.pool_id).device_type).memory_bytes
    share = percent_text(worst.total_bytes.value / capacity)
    verdict = {
        FitVerdict.FITS: "fits",
        FitVerdict.TIGHT: "tight: within the memory model's own error of the capacity",
        FitVerdict.DOES_NOT_FIT: "does not fit",
    }[candidate.fit]
    return f"{bytes_text(worst.total_bytes.value)} of {bytes_text(capacity)} on the fullest rank ({share}); {verdict}"


def _unplaced_lines(page: PlanPage) -> list[str]:
    found: Unplaced | None = next((u for u in page.plan.unplaced if u.unit_id == page.unit_id), None)
    lines = [page.style("NOT PLACED", "bold", "red") + (f"  {found.reason}" if found else "")]
    if found is not None:
        lines += wrapped(found.detail, width=page.width, first="  why        ")
        if found.smallest_change:
            lines += wrapped(found.smallest_change, width=page.width, first="  to run it  ")
    return [*lines, ""]
