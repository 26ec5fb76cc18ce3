"""Measured steps for the planner's cost models: what they would have predicted, and what the runs make of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime

from planner import measured
from planner.devices import CatalogueEntry
from scheduler.adapters.devices.own import resolver, types_by_spelling
from trimtab.ids import PoolId
from trimtab.inventory import DeviceType, Pool, ProbeReport, Shape
from trimtab.measurement import Multiplier, StepMeasurement
from trimtab.spec import MeasuredSteps

_QUARTILES_TO_SPREAD = 1.349
_FEW_FOR_QUARTILES = 4


def multipliers(
    measurements: Sequence[StepMeasurement],
    entries: Mapping[str, CatalogueEntry],
    probes: Sequence[ProbeReport],
    *,
    now: datetime,
) -> tuple[Multiplier, ...]:
    """See ``planner.measured``; kinds of devices are those of the catalogue and of what was probed."""
    types = [*types_by_spelling(entries).values(), *(probe.device_type for probe in probes)]
    return measured.multipliers(measurements, kinds={kind.name: kind.kind for kind in types}, probes=probes, now=now)


def measure(steps: MeasuredSteps, entries: Mapping[str, CatalogueEntry], probes: Sequence[ProbeReport]) -> StepMeasurement:
    """An entry of a file as a measurement. Raises SpecError with paths from the entry on."""
    probe = max((p for p in probes if p.device_type.name == steps.device), key=lambda p: p.measured_at, default=None)
    device = _device(steps.device, entries, probe)
    if probe is None:
        probe = max((p for p in probes if p.device_type.name == device.name), key=lambda p: p.measured_at, default=None)
    run = measured.MeasuredRun(
        spec=steps.spec,
        strategy=steps.strategy,
        framework=steps.framework,
        device_type=device,
        pool=Pool(
            id=PoolId("measured"),
            device_type=device.name,
            devices_per_node=steps.devices_per_node,
            num_nodes=steps.num_nodes,
            node_link=device.link,
            network=device.network,
        ),
        shape=Shape(num_nodes=steps.num_nodes, devices_per_node=steps.devices_per_node),
        probe=probe,
    )
    found = measured.predict_run(run)
    median_s = statistics.median(steps.steps_s)
    assert steps.spec.model is not None
    return StepMeasurement(
        source=steps.source,
        device_type=device.name,
        framework=steps.framework,
        basis=found.key.basis,
        model=steps.spec.model.name,
        strategy=steps.strategy.label(),
        predicted_s=found.step_s.value,
        measured_s=median_s,
        num_steps=steps.num_steps,
        at=steps.at,
        spread=found.step_s.log_spread,
        step_spread_frac=_scatter_s(steps.steps_s) / median_s,
    )


def _device(name: str, entries: Mapping[str, CatalogueEntry], probe: ProbeReport | None) -> DeviceType:
    """A device type that was probed by that very name, else one of the catalogue by any spelling."""
    if probe is not None:
        return probe.device_type
    return entries[resolver(lambda: entries)(name)].device_type


def _scatter_s(steps_s: Sequence[float]) -> float:
    """Standard deviation of single steps by their quartiles, which a few slow ones do not move; 0 where there are few steps."""
    if len(steps_s) < _FEW_FOR_QUARTILES:
        return 0.0
    low, _, high = statistics.quantiles(steps_s, n=4)
    return (high - low) / _QUARTILES_TO_SPREAD
