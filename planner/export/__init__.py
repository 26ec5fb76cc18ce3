"""Exports of a plan for other trainers and launchers."""

from planner.export.api import TARGETS, export, refusals
from planner.export.types import (
    Dimension,
    Export,
    ExportCase,
    ExportFile,
    ExportTarget,
    Launch,
    Note,
    Refusal,
    Rule,
    TargetRules,
)

__all__ = [
    "TARGETS",
    "Dimension",
    "Export",
    "ExportCase",
    "ExportFile",
    "ExportTarget",
    "Launch",
    "Note",
    "Refusal",
    "Rule",
    "TargetRules",
    "export",
    "refusals",
]
