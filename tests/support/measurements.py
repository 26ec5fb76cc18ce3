"""Measured runs for tests."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from trimtab.ids import DeviceTypeName
from trimtab.measurement import Basis, StepMeasurement

BEGAN = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def measured(ratio: float, number: int = 0, **fields: Any) -> StepMeasurement:
    """A run that took ``ratio`` times its prediction of two seconds, an hour after the run before it."""
    values: dict[str, Any] = {
        "source": f"job_{number}.u0.a1",
        "device_type": DeviceTypeName("cpu-test"),
        "framework": "trimtab",
        "basis": Basis.ROOFLINE,
        "model": "tiny",
        "strategy": "single mb1x1 fp32",
        "predicted_s": 2.0,
        "measured_s": 2.0 * ratio,
        "num_steps": 20,
        "at": BEGAN + timedelta(hours=number),
        "spread": math.hypot(0.12, 0.06),  # the fitted spreads: a run keeps 0.06 for itself
    }
    return StepMeasurement(**(values | fields))
