"""Exports: a planned strategy as other trainers read it, or a refusal that names what they cannot express."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from planner.export.accelerate import ACCELERATE
from planner.export.deepspeed import DEEPSPEED
from planner.export.maxtext import MAXTEXT
from planner.export.megatron import MEGATRON
from planner.export.torchrun import TORCHRUN
from planner.export.torchtitan import TORCHTITAN
from planner.export.trimtab_job import TRIMTAB_JOB
from planner.export.types import Export, ExportCase, ExportTarget, Note, Refusal, TargetRules
from trimtab.errors import Problem, SpecError

_ALL = (TORCHRUN, TORCHTITAN, MEGATRON, DEEPSPEED, ACCELERATE, MAXTEXT, TRIMTAB_JOB)
TARGETS: Mapping[ExportTarget, TargetRules] = MappingProxyType({rules.target: rules for rules in _ALL})


def refusals(case: ExportCase, target: ExportTarget) -> tuple[Refusal, ...]:
    """Everything of the case that the target cannot express."""
    rules = TARGETS[target]
    found = [
        Refusal(dimension=None, text=f"{target} does not take {text}", allowed="another target, or another model or workload")
        for text in rules.beyond(case)
    ]
    for rule in rules.rules:
        text = rule.refuse(case)
        if text:
            found.append(Refusal(dimension=rule.dimension, text=text, allowed=rule.limits))
    return tuple(found)


def export(case: ExportCase, target: ExportTarget) -> Export:
    """The case as the target reads it. Raises SpecError with one problem for each part that the target cannot express."""
    refused = refusals(case, target)
    if refused:
        problems = [
            Problem(path=f"strategy.{r.dimension}" if r.dimension else "job", message=r.text, allowed=r.allowed) for r in refused
        ]
        raise SpecError(problems, source=f"export to {target}")
    rules = TARGETS[target]
    notes = [Note(dimension=rule.dimension, text=text) for rule in rules.rules if (text := rule.remark(case))]
    notes += [Note(dimension=None, text=text) for text in rules.remarks(case)]
    written = rules.write(case)
    return Export(target=target, files=written.files, launch=written.launch, num_nodes=case.shape.num_nodes, notes=tuple(notes))
