"""Two plans side by side as data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.service.comparison import Comparison, PlanSide, compare
from scheduler.service.figures import Span
from tests.support.planning import GPT2_SMALL, command_spec
from tests.support.plans import STRATEGY, candidate, inventory, job
from trimtab.jobspec import JobSpec
from trimtab.plan import Candidate
from trimtab.wire import encode


def side(found: Candidate, *, spec: JobSpec | None = None, name: str = "plan") -> PlanSide:
    return PlanSide(name=name, candidate=found, spec=spec or job(), inventory=inventory())


A = candidate(STRATEGY, step_s=3.0, cost_usd=600.0, nodes=4)
B = candidate(replace(STRATEGY, tp=4, pp=1, stage_layers=()), step_s=2.4, cost_usd=900.0, nodes=4)


def test_the_same_plan_differs_in_nothing() -> None:
    found = compare(side(A), side(A))
    assert not found.warnings
    assert not any(choice.differs for choice in (*found.choices, *found.strategy))
    assert {figure.difference for figure in found.figures} == {0.0}
    assert all(figure.ratio in (1.0, None) for figure in found.figures)
    assert False not in {figure.overlap for figure in found.figures}


def test_the_dimensions_that_differ_are_named_and_defaults_left_out() -> None:
    found = {choice.name: choice for choice in compare(side(A), side(B)).strategy}
    assert {name for name, choice in found.items() if choice.differs} == {"tp", "pp", "stage_layers"}
    assert (found["tp"].a, found["tp"].b) == ("2", "4")
    assert (found["stage_layers"].a, found["stage_layers"].b) == ("15+17", "even")
    assert "cp" not in found
    assert "offload" not in found


@pytest.mark.parametrize(("step_s", "overlap"), [(2.5, True), (2.4, False), (3.0, True)])
def test_whether_intervals_overlap(step_s: float, overlap: bool) -> None:
    """Each interval is 10 % on both sides: 2.7 to 3.3 against 2.75 or 2.64 at the upper end."""
    figure = compare(side(A), side(candidate(STRATEGY, step_s=step_s, cost_usd=1.0, nodes=4))).figure("step time")
    assert figure is not None
    assert figure.overlap is overlap
    assert figure.difference == pytest.approx(step_s - 3.0)
    assert figure.ratio == pytest.approx(step_s / 3.0)


def test_tokens_per_second_turn_the_interval_round() -> None:
    figure = compare(side(A), side(B)).figure("tokens/s")
    assert figure is not None
    assert figure.a is not None
    spec = job()
    assert spec.train is not None
    tokens = spec.train.tokens_per_step
    assert figure.a.value == pytest.approx(tokens / 3.0)
    assert (figure.a.low, figure.a.high) == pytest.approx((tokens / 3.3, tokens / 2.7))


def test_memory_is_compared_stage_by_stage() -> None:
    one_stage = replace(B, memory=B.memory[:1])
    found = compare(side(A), side(one_stage))
    second = [figure for figure in found.figures if figure.section == "memory of a rank, stage 1"]
    assert second[0].a is not None
    assert second[0].b is None
    parts = [figure for figure in second if figure.is_part and figure.unit == "bytes"]
    assert sum(part.a.value for part in parts if part.a) == second[0].a.value


def test_other_models_workloads_and_kinds_are_said() -> None:
    spec = job()
    assert spec.train is not None
    longer = replace(spec, train=replace(spec.train, num_steps=spec.train.num_steps + 1))
    other = replace(spec, model=replace(GPT2_SMALL, name="gpt2"))
    said = compare(side(A), side(A, spec=longer)).warnings
    assert len(said) == 1
    assert said[0].startswith("different workloads: num_steps 20 and 21")
    assert "different models" in compare(side(A), side(A, spec=other)).warnings[0]
    assert "different kinds" in compare(side(A), side(A, spec=command_spec())).warnings[0]


def test_a_plan_without_its_job_says_that_nothing_is_known_of_it() -> None:
    bare = PlanSide(name="old.json", candidate=B, spec=None, inventory=None)
    found = compare(side(A), bare)
    assert found.warnings == ("old.json does not hold its job: whether model and workload are the same is not known",)
    figure = found.figure("tokens/s")
    assert figure is not None
    assert (figure.b, figure.difference, figure.overlap) == (None, None, None)


def test_a_comparison_is_plain_data() -> None:
    tree = encode(compare(side(A), side(B)))
    assert set(tree) == {"name_a", "name_b", "warnings", "choices", "strategy", "figures"}


def test_spans_overlap_where_they_share_a_point() -> None:
    one = Span(value=1.0, low=0.5, high=2.0)
    assert one.overlaps(Span(value=2.0, low=2.0, high=3.0))
    assert not one.overlaps(Span.exactly(2.5))
    assert isinstance(compare(side(A), side(B)), Comparison)
