"""Nothing of a strategy is dropped silently by any export."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from planner.export import TARGETS, Dimension, Export, ExportCase, ExportTarget, export, refusals
from tests.support.exporting import SMALL, VALUES, build, case, some_values, with_experts
from trimtab.errors import SpecError
from trimtab.strategy import Strategy

SLOW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
NUM_LAYERS = 8


def shown(found: Export) -> tuple[Any, ...]:
    """All that a reader of the export sees."""
    return (
        tuple((file.name, file.text) for file in found.files),
        found.launch.argv,
        tuple(sorted(found.launch.environment.items())),
        found.notes,
    )


def cases(strategy: Strategy, model: Any) -> ExportCase:
    """The case with a job file, so that every target has what it needs."""
    workload = {"global_batch": strategy.global_batch, "precision": str(strategy.precision)}
    return case(strategy, model=model, job={"kind": "train", "name": "a-job", "model": "tiny", "workload": workload})


def outcome(strategy: Strategy, model: Any, target: ExportTarget) -> Export | None:
    """The export, or None where it is refused; a refusal is a SpecError with the refused dimensions."""
    found = cases(strategy, model)
    refused = refusals(found, target)
    if not refused:
        return export(found, target)
    with pytest.raises(SpecError) as caught:
        export(found, target)
    assert len(caught.value.problems) == len(refused)
    assert all(refusal.text and refusal.allowed for refusal in refused)
    return None


@pytest.mark.parametrize("target", list(ExportTarget))
@SLOW
@given(data=st.data(), dimension=st.sampled_from(list(Dimension)), experts=st.booleans())
def test_another_value_gives_another_export_or_a_refusal(
    target: ExportTarget, data: st.DataObject, dimension: Dimension, experts: bool
) -> None:
    values = some_values(data, experts=experts)
    model = with_experts() if experts else SMALL
    other = {**values, str(dimension): data.draw(VALUES[dimension], label=f"other {dimension}")}
    first, second = build(values, num_layers=NUM_LAYERS), build(other, num_layers=NUM_LAYERS)
    assume(first is not None and second is not None and first != second)
    assert first is not None
    assert second is not None
    one, two = outcome(first, model, target), outcome(second, model, target)
    if one is not None and two is not None:
        assert shown(one) != shown(two), f"{target} writes the same for {first.label()} and {second.label()}"


@pytest.mark.parametrize("target", list(ExportTarget))
def test_every_target_has_one_rule_for_every_dimension(target: ExportTarget) -> None:
    fields = [field.name for field in dataclasses.fields(Strategy)]
    assert [str(rule.dimension) for rule in TARGETS[target].rules] == fields == [str(dimension) for dimension in Dimension]
    # A dimension without a key must be able to say something: it is refused, noted or follows from another.
    for rule in TARGETS[target].rules:
        assert rule.keys or rule.limits


@pytest.mark.parametrize("target", list(ExportTarget))
def test_one_rank_is_taken_by_every_target(target: ExportTarget) -> None:
    found = export(cases(Strategy(), SMALL), target)
    assert found.file("start.sh").text.startswith("#!/bin/sh\n")
    assert found.num_nodes == 1
