"""The fitted constants of the training cost model: one file, each with meaning, unit and the bounds that physics sets.

``constants.json`` has three parts: ``global`` (at most 40), ``frameworks`` (at most 4 for each) and ``devices`` (at most 3 for
each device family and precision). ``tools/fit_training_constants.py`` writes it; nothing else holds a fitted number of this
model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from planner.training.knobs import Knobs
from trimtab.errors import Problem, SpecError
from trimtab.estimate import Constant, Origin

FILE = Path(__file__).with_name("constants.json")
FRAMEWORK_NAMES = ("host_s", "slot_s", "tensor_exposed", "data_exposed")
DEVICE_NAMES = ("matmul_share", "attention_share", "memory_share")
SPREAD_NAMES = ("spread_raw", "spread_calibrated", "spread_experts", "spread_unknown", "spread_waiting")
"""Global constants that widen intervals and take no part in the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What one constant means, its unit and the bounds that a fit must keep."""

    meaning: str
    unit: str
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedConstants:
    """All fitted constants: what each name means, and the values for everything, by framework, and by device family and
    precision.

    ``families`` maps a device type to the family whose constants it takes. ``source`` says what they were fitted to.
    """

    quantities: Mapping[str, Quantity]
    shared: Mapping[str, float]
    frameworks: Mapping[str, Mapping[str, float]]
    devices: Mapping[str, Mapping[str, float]]
    families: Mapping[str, str]
    source: str

    def framework(self, name: str) -> Mapping[str, float]:
        """Constants of one framework profile. Raises SpecError for a name that has none."""
        if name not in self.frameworks:
            allowed = ", ".join(sorted(self.frameworks))
            raise SpecError([Problem(path="framework", message=f"no constants for {name!r}", allowed=allowed)])
        return self.frameworks[name]

    def device(self, device_type: str, precision: str) -> tuple[Mapping[str, float], bool]:
        """Constants of a device type at a precision, and whether they were fitted to runs of its family at that precision.

        Where there are none, those of the family's 16-bit arithmetic stand in, then those of all families.
        """
        family = self.families.get(device_type, device_type)
        exact = f"{family}.{_fitted_as(precision)}"
        if exact in self.devices:
            return {**self.devices.get(f"{family}.bf16", self.devices["any"]), **self.devices[exact]}, True
        return self.devices.get(f"{family}.bf16", self.devices["any"]), False

    def knobs(self, frameworks: Sequence[str], places: Sequence[tuple[str, str]]) -> Knobs:
        """Constants as arrays: one framework and one (device type, precision) per strategy, or one for all where M is 1."""
        rows = [self.framework(name) for name in frameworks]
        held = [self.device(*place)[0] for place in places]
        shared = {name: value for name, value in self.shared.items() if name not in SPREAD_NAMES}
        arrays: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in FRAMEWORK_NAMES}
        arrays |= {name: np.array([row[name] for row in held]) for name in DEVICE_NAMES}
        return Knobs(**shared, **arrays)

    def listed(self, framework: str, device_type: str, precision: str) -> tuple[Constant, ...]:
        """Every constant that a prediction of that framework on that device used, with its origin."""
        device, fitted = self.device(device_type, precision)
        origin = Origin.PUBLISHED if fitted else Origin.ASSUMED
        used = [(name, value, Origin.PUBLISHED) for name, value in self.shared.items()]
        used += [(f"{framework} {name}", value, Origin.PUBLISHED) for name, value in self.framework(framework).items()]
        used += [(f"{device_type} {precision} {name}", value, origin) for name, value in device.items()]
        return tuple(
            Constant(name=f"{name}, {self.quantities[name.split()[-1]].unit}", value=value, origin=kind, source=self.source)
            for name, value, kind in used
        )


@cache
def fitted_constants() -> FittedConstants:
    """The constants that come with the product."""
    return read_constants(FILE)


def read_constants(path: Path) -> FittedConstants:
    """Constants from a file. Raises ValueError where a value is missing, unknown or outside its bounds."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    quantities = {name: Quantity(**entry) for name, entry in raw["quantities"].items()}
    made = FittedConstants(
        quantities=MappingProxyType(quantities),
        shared=MappingProxyType(raw["global"]),
        frameworks=MappingProxyType(raw["frameworks"]),
        devices=MappingProxyType(raw["devices"]),
        families=MappingProxyType(raw["families"]),
        source=raw["source"],
    )
    for holder in (made.shared, *made.frameworks.values(), *made.devices.values()):
        for name, value in holder.items():
            bounds = quantities[name]
            if not bounds.low <= value <= bounds.high:
                raise ValueError(f"{name} = {value} is outside {bounds.low} to {bounds.high} {bounds.unit}")
    return made


def _fitted_as(precision: str) -> str:
    """16-bit formats share their constants, and so do the wider ones that have none of their own."""
    return {"fp16": "bf16", "tf32": "bf16", "fp32": "bf16", "fp64": "bf16"}.get(precision, precision)
