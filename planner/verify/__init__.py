"""Verification: an independent check of finished plans."""

from planner.verify.checker import check_plan

__all__ = ["check_plan"]
