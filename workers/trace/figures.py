"""From passes at several batches and lengths to figures per sample and per token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from torch import nn

from trimtab.spec.model_document import TracedInput
from workers.trace.failure import TraceError, one_line
from workers.trace.measure import Counted, count_pass
from workers.trace.parts import Part
from workers.trace.request import resized

MIN_LENGTH = 8
"""Shorter sequences are not cut for the other two lengths."""
_WORTH_SAYING = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A figure of one sample as a polynomial of the length: ``fixed + linear s + square s^2``."""

    fixed: Fraction
    linear: Fraction
    square: Fraction


@dataclass(slots=True, kw_only=True)
class Passes:
    """The pass that was asked for (``main``), one at twice the batch, and those at shorter lengths, where they could be run."""

    main: Counted
    doubled: Counted | None = None
    shorter: dict[int, Counted] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def run_passes(
    module: nn.Module, parts: Sequence[Part], inputs: Sequence[TracedInput], *, batch: int, sequence_length: int | None
) -> Passes:
    """Trace at (B, S), (2 B, S), (B, S/2) and (B, S/4). Raises TraceError where the first fails; the others only leave notes."""
    passes = Passes(main=count_pass(module, parts, inputs, backward=True))
    passes.notes += passes.main.notes
    try:
        passes.doubled = count_pass(module, parts, _resized(inputs, 2 * batch, sequence_length))
    except TraceError as error:
        passes.notes.append(f"a batch of {2 * batch} could not be traced, so figures hold at {batch}: {error}")
    if sequence_length is None:
        return passes
    if sequence_length < MIN_LENGTH:
        passes.notes.append(f"{sequence_length} tokens are too few to tell how figures grow with the length")
        return passes
    for length in (sequence_length // 2, sequence_length // 4):
        try:
            passes.shorter[length] = count_pass(module, parts, _resized(inputs, batch, length))
        except TraceError as error:
            passes.shorter.clear()
            passes.notes.append(f"{length} tokens could not be traced, so per-token figures hold at {sequence_length}: {error}")
            break
    return passes


def growth(at: Mapping[int, int], *, batch: int) -> Growth:
    """Of the figures of a batch by length: the polynomial through all three, or all of the longest's share per token.

    The latter where one length alone was traced, or where the polynomial has a negative term, because the figure is none.
    """
    longest = max(at)
    if len(at) == 3:
        found = _through(sorted(at.items()), batch)
        if min(found.fixed, found.linear, found.square) >= 0:
            return found
    return Growth(fixed=Fraction(0), linear=Fraction(at[longest], batch * longest), square=Fraction(0))


def batch_note(name: str, once: Mapping[str, int], twice: Mapping[str, int], *, batch: int) -> str | None:
    """A note where a figure does not double with the batch; ``once`` and ``twice`` by part."""
    total, doubled = sum(once.values()), sum(twice.values())
    if not total or abs(doubled - 2 * total) <= _WORTH_SAYING * total:
        return None
    return f"{name} grow {doubled / total:.4g} times when the batch of {batch} doubles: figures per sample hold at that batch"


def square_note(name: str, squares: Sequence[Fraction], total: int, *, length: int, batch: int) -> str | None:
    """A note where a figure grows with the square of the length."""
    part = float(sum(squares) * batch * length * length)
    if not total or part <= _WORTH_SAYING * total:
        return None
    share = 100 * part / total
    return f"{share:.3g}% of the {name} grow with the square of the length: per-token figures hold at {length} tokens"


def shortened(notes: Sequence[str]) -> tuple[str, ...]:
    """Notes in one line each, none twice."""
    return tuple(dict.fromkeys(one_line(note) for note in notes))


def _resized(inputs: Sequence[TracedInput], batch: int, sequence_length: int | None) -> tuple[TracedInput, ...]:
    return tuple(resized(entry, batch=batch, sequence_length=sequence_length) for entry in inputs)


def _through(points: Sequence[tuple[int, int]], batch: int) -> Growth:
    """Newton's divided differences of three points, exact."""
    (s0, y0), (s1, y1), (s2, y2) = points
    first, second = Fraction(y1 - y0, s1 - s0), Fraction(y2 - y1, s2 - s1)
    square = (second - first) / (s2 - s0)
    linear = first - square * (s0 + s1)
    fixed = y0 - linear * s0 - square * s0 * s0
    return Growth(fixed=fixed / batch, linear=linear / batch, square=square / batch)
