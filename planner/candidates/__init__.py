"""Candidates: shapes, predictions, limits and pruning."""

from planner.candidates.generate import CandidateSet, Generator, Scored, merge_dropped, same_strategy
from planner.candidates.limits import Violation, violations
from planner.candidates.predict import Dropped, Judged, ShapeResult, Surveyed, judge_shape, shares, survey_shape, verdict
from planner.candidates.prune import Pruned, prune
from planner.candidates.shapes import Site, requests_type, sites, usable_shapes

__all__ = [
    "CandidateSet",
    "Dropped",
    "Generator",
    "Judged",
    "Pruned",
    "Scored",
    "ShapeResult",
    "Site",
    "Surveyed",
    "Violation",
    "judge_shape",
    "merge_dropped",
    "prune",
    "requests_type",
    "same_strategy",
    "shares",
    "sites",
    "survey_shape",
    "usable_shapes",
    "verdict",
    "violations",
]
