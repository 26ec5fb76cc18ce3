"""From candidates to columns: what another candidate beats in every respect is left out, and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.candidates.generate import Scored
from trimtab.ids import OfferId
from trimtab.plan import FitVerdict

HEADROOM_STEP_FRAC = 0.1
"""Memory headroom counts in steps of this share of the memory: finer differences are below the memory model's own error."""


_TIME, _COST, _OBJECTIVE = 3, 4, 5  # places in the tuple of dimensions


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What is left for the optimisation, and each dominated candidate with the one that beats it."""

    kept: tuple[Scored, ...]
    dominated: tuple[tuple[Scored, Scored], ...]


def prune(
    scored: Sequence[Scored], *, objective: Callable[[Scored], float], keep: Callable[[Scored], bool] = lambda _: False
) -> Pruned:
    """The Pareto set of each offer on (devices, devices per node, time, cost, objective, headroom, fit).

    Also kept: what ``keep`` names (the current configuration), and of all offers together the cheapest, the fastest and the
    one with the best objective. Candidates of different offers never beat each other, because their capacity is not the same.
    """
    measured = [_Measured(position=i, scored=s, dimensions=_dimensions(s, objective)) for i, s in enumerate(scored)]
    always = _extremes(measured)
    kept: list[_Measured] = []
    dominated: list[tuple[Scored, Scored]] = []
    for offer_id in offers_of(scored):
        ordered = sorted(
            (entry for entry in measured if entry.scored.candidate.offer_id == offer_id),
            key=lambda entry: (entry.dimensions, _label(entry.scored)),
        )
        front: list[_Measured] = []
        for entry in ordered:
            rival = next((other for other in front if _beats(other.dimensions, entry.dimensions)), None)
            if rival is None:
                front.append(entry)
            elif entry.position in always or keep(entry.scored):
                kept.append(entry)
            else:
                dominated.append((entry.scored, rival.scored))
        kept += front
    kept.sort(key=lambda entry: entry.position)
    return Pruned(kept=tuple(entry.scored for entry in kept), dominated=tuple(dominated))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    position: int
    scored: Scored
    dimensions: tuple[float, ...]


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


def _beats(rival: tuple[float, ...], entry: tuple[float, ...]) -> bool:
    return all(ours <= theirs for ours, theirs in zip(rival, entry, strict=True))


def _extremes(measured: Sequence[_Measured]) -> frozenset[int]:
    """Positions of the fastest, the cheapest and the best by objective."""
    if not measured:
        return frozenset()
    return frozenset(_least(measured, which) for which in (_TIME, _COST, _OBJECTIVE))


def _least(measured: Sequence[_Measured], which: int) -> int:
    return min(measured, key=lambda entry: (entry.dimensions[which], _label(entry.scored))).position


def _label(entry: Scored) -> str:
    strategy = entry.candidate.strategy
    layers = strategy.stage_layers if strategy is not None else ()
    return f"{strategy.label() if strategy is not None else ''} {layers}"
