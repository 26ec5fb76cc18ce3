"""The predictor of rows that ``training_accuracy.py`` evaluates: here the constant share of the peak."""

from __future__ import annotations

from benchmarks._constant_share import calibrated, predict_rows

__all__ = ["calibrated", "predict_rows"]
