"""Predicted step time, memory and fixed cost of a training strategy on a device type."""

from planner.costs.step import FRAMEWORKS, predict
from planner.costs.types import DeviceContext, Prediction

__all__ = ["FRAMEWORKS", "DeviceContext", "Prediction", "predict"]
