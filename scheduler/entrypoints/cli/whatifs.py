"""What-if questions of the command line: each gives a plan of its own beside the plain one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import scheduler.bootstrap as bootstrap
from scheduler.config import Settings
from scheduler.entrypoints.cli.planning import Basis, PlanAnswer, plan_spec_here
from scheduler.service.whatif import Knowledge, World, WorldChange, changed, parse_changes
from trimtab.errors import Problem, SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question as it was typed, and its changes."""

    text: str
    changes: tuple[WorldChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """A question with the plan of the changed world."""

    question: str
    answer: PlanAnswer


def parse_questions(texts: Sequence[str]) -> tuple[Question, ...]:
    """Every question read. Raises SpecError with the problems of all of them."""
    found: list[Question] = []
    problems: list[Problem] = []
    for text in texts:
        try:
            found.append(Question(text=text.strip(), changes=parse_changes(text)))
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    return tuple(found)


def ask(settings: Settings, plain: PlanAnswer, questions: Sequence[Question], *, basis: Basis) -> tuple[WhatIf, ...]:
    """The plan of each changed world. Raises SpecError where a change cannot be made, before anything is planned."""
    if not questions:
        return ()
    known = Knowledge(
        catalogue=bootstrap.device_catalogue(settings, now=basis.now), prices=bootstrap.price_book(settings, now=basis.now)
    )
    world = World(spec=plain.spec, inventory=plain.inventory, num_devices=_num_devices(plain))
    worlds = [changed(world, question.changes, known) for question in questions]
    return tuple(
        WhatIf(
            question=question.text,
            answer=plan_spec_here(settings, other.spec, replace(basis, inventory=other.inventory)),
        )
        for question, other in zip(questions, worlds, strict=True)
    )


def _num_devices(plain: PlanAnswer) -> int:
    """The devices that changes count from: those of the plan, else those of the largest pool."""
    assignment = plain.plan.assignment(plain.unit_id)
    if assignment is not None:
        return assignment.candidate.shape.num_devices
    return max((pool.num_devices for pool in plain.inventory.pools), default=1)
