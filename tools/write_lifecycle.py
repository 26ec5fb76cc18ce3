"""Writes ``docs/lifecycle.md`` from the two life tables of ``trimtab.lifecycle`` and the invariants that the core checks.

``python tools/write_lifecycle.py`` writes the page, with ``--check`` it only says whether the page is current.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import Path

from tools.pages import write_or_check
from trimtab.jobspec import RetryPolicy
from trimtab.lifecycle import (
    ATTEMPT_MOVES,
    QUARANTINE,
    UNIT_ENDS,
    UNIT_MOVES,
    AttemptEvent,
    AttemptState,
    Intent,
    ReleaseReason,
    UnitState,
    after_release,
    follow,
    seen_again,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "lifecycle.md"

_INTRODUCTION = """\
# Life of a unit and of an attempt

This page is made from the tables in `trimtab/lifecycle.py` by `tools/write_lifecycle.py`; a test checks that it is current.
A unit is a training gang (later also a compression run or a replica of a service). A retry, resize or migration of a unit
is a new attempt. The attempt number only ever rises, and it fences every effect outside.
"""

_RULES = (
    ("I1", "A job that was accepted exists in every later state."),
    ("I2", "An idempotency key makes at most one job, one submit at most one."),
    ("I3", "At most one attempt of a unit has processes, counted outside the tables."),
    ("I4", "A device has at most one owner, and at most one attempt's processes."),
    ("I5", "Everything that runs is covered by an attempt that is not released."),
    ("I6", "What a stale attempt says changes nothing."),
    ("I7", "Attempt numbers and event numbers rise by one, without gaps."),
    ("I8", "Ends are final; within an attempt the state moves along the table only; a unit follows its live attempt."),
    ("I10", "No unit of a job gets lost."),
    ("I11", "A unit that starts, runs or stops has a live attempt."),
    ("I12", "A live attempt owns all of its devices, a released one none."),
    ("I13", "Replaying the events gives the states of the tables again."),
    ("I14", "A command is committed before the act, and only for a live attempt."),
    ("I15", "When all is quiet, nothing is left running, owned, pending or unforgotten."),
    ("I16", "A plan passes the planner's own checker, and each assignment is checked again against the present."),
    ("I18", "The checkpoint to resume from never goes back, unless an event says so."),
    ("I20", "UNKNOWN is never shown as ended; what FAILED has a reason."),
    ("I21", "Cancel is final: no attempt begins after it."),
    ("I22", "A unit never exceeds its retries; failures and losses are counted apart, stops not at all."),
)


def page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, "## Attempt\n", _attempt_diagram(), _attempt_table(), "## Unit\n", _unit_diagram()]
    parts += [_unit_table(), "## When an attempt is released\n", _release_table(), "## What always holds\n", _rules()]
    return "\n".join(parts)


def _attempt_diagram() -> str:
    lines = ["```mermaid", "stateDiagram-v2"]
    for (before, event), after in ATTEMPT_MOVES.items():
        lines.append(f"    {before or '[*]'} --> {after}: {event}")
    for before, asked in product(_live(), (False, True)):
        after = seen_again(before=before, stop_requested=asked)
        note = "stop was asked" if asked else f"was {before}"
        line = f"    UNKNOWN --> {after}: {AttemptEvent.SEEN_AGAIN} ({note})"
        if line not in lines:
            lines.append(line)
    lines += ["    RELEASED --> [*]", "```", ""]
    return "\n".join(lines)


def _live() -> tuple[AttemptState, ...]:
    return (AttemptState.STARTING, AttemptState.RUNNING, AttemptState.STOPPING)


def _attempt_table() -> str:
    lines = ["| From | Event | To |", "|---|---|---|"]
    lines += [f"| {before or '(none)'} | {event} | {after} |" for (before, event), after in ATTEMPT_MOVES.items()]
    lines.append(f"| UNKNOWN | {AttemptEvent.SEEN_AGAIN} | the state before, or STOPPING if a stop was asked |")
    lines += ["", "Devices are free only in RELEASED. Losing sight is not death: an UNKNOWN attempt keeps its devices until it"]
    lines += ["is seen again, or its death is proven by the executor or vouched for by an operator.", ""]
    return "\n".join(lines)


def _unit_diagram() -> str:
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> QUEUED: Submitted"]
    lines += [f"    {before} --> {after}: {event}" for (before, event), after in UNIT_MOVES.items()]
    followed = [state for state in (follow(attempt) for attempt in AttemptState) if state is not None]
    lines += [f"    {a} --> {b}: follows its attempt" for a, b in product(followed, followed) if _may_follow(a, b)]
    for before in followed:
        lines += [f"    {before} --> {after}: Released" for after in _after_states()]
    lines += [f"    {end} --> [*]" for end in UnitState if end in UNIT_ENDS]
    return "\n".join([*lines, "```", ""])


def _may_follow(before: UnitState, after: UnitState) -> bool:
    moves = {(str(b), str(a)) for (b, _), a in ATTEMPT_MOVES.items()}
    return (before.value, after.value) in moves


def _after_states() -> list[UnitState]:
    return list(dict.fromkeys(after for _, _, _, after in _releases()))


def _unit_table() -> str:
    lines = ["| From | Event | To |", "|---|---|---|"]
    lines += [f"| {before} | {event} | {after} |" for (before, event), after in UNIT_MOVES.items()]
    ends = ", ".join(state.value for state in UnitState if state in UNIT_ENDS)
    lines += [f"| {ends} | anything | nothing moves |", ""]
    return "\n".join(lines)


def _releases() -> list[tuple[ReleaseReason, Intent, str, UnitState]]:
    retry = RetryPolicy(max_failures=1, max_losses=1)
    rows = []
    for reason, intent, (name, count) in product(ReleaseReason, Intent, (("yes", 1), ("no", 2))):
        state, _ = after_release(reason, intent, num_failures=count, num_losses=count, retry=retry)
        rows.append((reason, intent, name, state))
    return rows


def _release_table() -> str:
    lines = ["| Released as | Intent | Tries left | Unit goes to |", "|---|---|---|---|"]
    found = _releases()
    for reason, intent, name, state in found:
        other = next(s for r, i, n, s in found if (r, i) == (reason, intent) and n != name)
        if other != state:
            lines.append(f"| {reason} | {intent} | {name} | {state} |")
        elif name == "yes":
            lines.append(f"| {reason} | {intent} | either | {state} |")
    return "\n".join([*lines, ""])


def _rules() -> str:
    lines = ["The loop checks the rules of a unit after each of its changes. From any state, a unit that breaks one is set"]
    lines += [f"aside: {QUARANTINE[0]} ({QUARANTINE[1]}), its rows saved, its devices kept until proof. The simulation checks"]
    lines += ["all rules after every step.", ""]
    lines += ["| Rule | What holds |", "|---|---|"]
    return "\n".join([*lines, *(f"| {number} | {text} |" for number, text in _RULES), ""])


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when the page is not current")
    return write_or_check(PAGE, page(), script=Path(__file__).name, check=parser.parse_args().check)


if __name__ == "__main__":
    sys.exit(main())
