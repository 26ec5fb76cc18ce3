"""From candidates to columns: what another candidate beats in every respect is left out, and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.candidates.generate import Scored
from trimtab.ids import OfferId
from trimtab.plan import FitVerdict

HEADROOM_STEP_FRAC = 0.1
"""Memory headroom counts in steps of this share of the memory: finer differences are below the memory model's own error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What is left for the optimisation, and each dominated candidate with the one that beats it."""

    kept: tuple[Scored, ...]
    dominated: tuple[tuple[Scored, Scored], ...]


def prune(
    scored: Sequence[Scored], *, objective: Callable[[Scored], float], keep: Callable[[Scored], bool] = lambda _: False
) -> Pruned:
    """The Pareto set of each offer on (devices, devices per node, time, cost, objective, headroom, fit).

    Also kept: what ``keep`` names (the current configuration), and of all offers together the cheapest, the fastest and the one with
    the best objective. Candidates of different offers never beat each other, because their capacity is not the same.
    """
    always = _extremes(scored, objective)
    kept: list[Scored] = []
    dominated: list[tuple[Scored, Scored]] = []
    for offer_id in dict.fromkeys(entry.candidate.offer_id for entry in scored):
        ordered = sorted(
            (entry for entry in scored if entry.candidate.offer_id == offer_id),
            key=lambda entry: (_dimensions(entry, objective), _label(entry)),
        )
        front: list[Scored] = []
        for entry in ordered:
            rival = next((other for other in front if _beats(other, entry, objective)), None)
            if rival is None:
                front.append(entry)
            elif any(entry is other for other in always) or keep(entry):
                kept.append(entry)
            else:
                dominated.append((entry, rival))
        kept += front
    position = {id(entry): index for index, entry in enumerate(scored)}
    return Pruned(kept=tuple(sorted(kept, key=lambda entry: position[id(entry)])), dominated=tuple(dominated))


def offers_of(scored: Sequence[Scored]) -> tuple[OfferId, ...]:
    """The offers of the candidates in order of first use."""
    return tuple(dict.fromkeys(entry.candidate.offer_id for entry in scored))


def _dimensions(entry: Scored, objective: Callable[[Scored], float]) -> tuple[float, ...]:
    candidate = entry.candidate
    return (
        candidate.shape.num_devices,
        candidate.shape.devices_per_node,
        0.0 if candidate.fit is FitVerdict.FITS else 1.0,
        candidate.total_s.value,
        candidate.cost_usd.value,
        objective(entry),
        -int(entry.headroom_frac / HEADROOM_STEP_FRAC),
    )


def _beats(rival: Scored, entry: Scored, objective: Callable[[Scored], float]) -> bool:
    pairs = zip(_dimensions(rival, objective), _dimensions(entry, objective), strict=True)
    return all(ours <= theirs for ours, theirs in pairs)


def _extremes(scored: Sequence[Scored], objective: Callable[[Scored], float]) -> tuple[Scored, ...]:
    if not scored:
        return ()
    by: tuple[Callable[[Scored], float], ...] = (
        lambda entry: entry.candidate.cost_usd.value,
        lambda entry: entry.candidate.total_s.value,
        objective,
    )
    return tuple(min(scored, key=lambda entry, measure=measure: (measure(entry), _label(entry))) for measure in by)  # type: ignore[misc]


def _label(entry: Scored) -> str:
    strategy = entry.candidate.strategy
    layers = strategy.stage_layers if strategy is not None else ()
    return f"{strategy.label() if strategy is not None else ''} {layers}"
