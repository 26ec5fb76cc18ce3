"""A plan as lines of text. Pure: the same plan gives the same lines."""

from scheduler.entrypoints.cli.planprint.page import PlanPage, plan_lines, unit_of

__all__ = ["PlanPage", "plan_lines", "unit_of"]
