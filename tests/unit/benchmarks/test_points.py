"""Files of published measurements: what is read, what a planner may see of it, and how wrong files are refused."""

from __future__ import annotations

import copy
import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks._point_fields import Fields
from benchmarks._point_models import read_model
from benchmarks._point_types import RowInput
from benchmarks._points import TRAINING_POINTS, points_of, read_points
from planner.models.counts import model_parameters
from tests.support.points import document, points, row
from trimtab.errors import Problem, SpecError
from trimtab.model import ModelSpec, PositionKind

HIDDEN = {"id", "source", "notes", "date", "tag", "publisher", "recompute_hint", "sweep_group", "suspect", "flops_check"}
MEASURED = ("step_time_s", "derived_step_time_s", "norm_tokens_per_s_per_device", "tflops_per_device", "memory_gib", "mfu_pct")


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    """The file as it stands."""
    loaded: dict[str, Any] = yaml.load(TRAINING_POINTS.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


def model(entry: dict[str, Any]) -> ModelSpec:
    problems: list[Problem] = []
    found = read_model(Fields(values=entry, path="models.m", label="model 'm'", problems=problems))
    assert problems == []
    assert found is not None
    return found


def test_the_published_file_is_read_whole() -> None:
    found = read_points(TRAINING_POINTS)
    assert len(found.rows) == 779
    assert sum(each.truth.out_of_memory for each in found.memory_rows) == 3
    assert sum(each.truth.memory_gb_reported is not None for each in found.memory_rows) == 9
    assert sum(each.truth.step_s is not None for each in found.rows) == 727


def test_models_have_the_parameters_that_the_file_states(published: dict[str, Any]) -> None:
    """Within 1 %; the file counts neither learned positions nor experts that a token does not pass as active."""
    wrong = {}
    for name, entry in published["models"].items():
        made = model(entry)
        counted = model_parameters(made)
        total = counted.total - sum(stack.positions for stack in counted.stacks)
        idle = 0.0
        for stack, spec in zip(counted.stacks, made.stacks, strict=True):
            experts = spec.feed_forward.experts
            if experts is not None:
                idle += stack.num_layers * stack.layer.experts * (1.0 - experts.top_k / experts.num_experts)
        stated_active = entry.get("active_params_b", entry["params_b"])
        errors = (total / entry["params_b"] / 1e9 - 1.0, (total - idle) / stated_active / 1e9 - 1.0)
        if max(abs(error) for error in errors) > 0.01:
            wrong[name] = errors
    assert len(published["models"]) == 91
    assert wrong == {}


def test_layers_of_several_kinds_stand_in_their_order(published: dict[str, Any]) -> None:
    models = published["models"]

    def windows(name: str) -> list[int | None]:
        return [stack.attention.window for stack in model(models[name]).stacks for _ in range(stack.num_layers)]

    def has_experts(name: str) -> list[bool]:
        stacks = model(models[name]).stacks
        return [stack.feed_forward.experts is not None for stack in stacks for _ in range(stack.num_layers)]

    assert windows("gpt-oss-120b")[:4] == [128, None, 128, None]
    assert windows("gemma3-12b")[:7] == [1024] * 5 + [None, 1024]
    assert windows("gemma4-31b").count(None) == 10
    assert has_experts("deepseek-v3-671b") == [False] * 3 + [True] * 58
    assert has_experts("llama4-maverick-17b-128e")[:4] == [False, True, False, True]
    latent = model(models["deepseek-v3-671b"]).stacks[0].attention.latent
    assert latent is not None
    assert (latent.kv_rank, latent.rope_size, latent.value_size, latent.query_rank) == (512, 64, 128, 1536)


def test_learned_positions_are_as_many_as_the_sequences_are_long() -> None:
    found = points_of(
        {**(base := document({"seq_len": 4096})), "models": {"small": {**base["models"]["small"], "act": "gelu"}}}, []
    )
    assert found.rows[0].input.model.position is PositionKind.LEARNED
    assert found.rows[0].input.model.max_positions == 4096


@pytest.mark.parametrize(
    ("fields", "step_s"),
    [
        ({"step_time_s": 2.0, "derived_step_time_s": 3.0, "norm_tokens_per_s_per_device": 1.0}, 2.0),
        ({"derived_step_time_s": 3.0, "norm_tokens_per_s_per_device": 1.0}, 3.0),
        ({"norm_tokens_per_s_per_device": 4096.0}, 64 * 2048 / (4096.0 * 8)),
        ({"norm_tokens_per_s_per_device": 4096.0, "global_batch": None}, None),
        ({"tflops_per_device": 100, "flops_convention": "nvidia_full_attn"}, None),
    ],
)
def test_the_measured_step(fields: dict[str, Any], step_s: float | None) -> None:
    assert row(**fields).truth.step_s == step_s


def test_flops_of_a_known_convention_mean_the_measured_step() -> None:
    """Rows that print both: the bigscience log rounds nothing, four of its rows used an older formula (3 to 4 % low)."""
    ratios = [
        each.truth.step_from_flops_s / each.truth.step_s
        for each in read_points(TRAINING_POINTS).rows
        if each.truth.step_s is not None and each.truth.step_from_flops_s is not None and "llama4" not in each.truth.model_name
    ]
    assert len(ratios) > 70
    assert all(0.99 < ratio < 1.05 for ratio in ratios)


def test_unknown_is_none_and_mixed_jobs_keep_their_stages() -> None:
    stages = [{"layers": 3, "replicas": [{"gpu": "A", "tp": 2}]}, {"layers": 1, "replicas": [{"gpu": "B", "tp": 2}]}]
    seen = row(recompute="unknown", precision="unknown", pool={"b": 2, "a": 2}, stages=stages).input
    assert seen.recompute is None
    assert seen.precision is None
    assert seen.is_mixed
    assert seen.pool == (("a", 2), ("b", 2))
    assert seen.stages is not None
    assert [stage.layers for stage in seen.stages] == [3, 1]


def test_memory_rows_get_the_batch_that_their_accumulation_means() -> None:
    own = {"id": "m", "model": "small", "hardware": "card", "devices": 8, "seq_len": 2048, "tp": 2, "pp": 1, "micro_batch": 1}
    kept = {**own, "zero": 1, "recompute": "full", "grad_accum": 4, "peak_memory_gb": 50, "source": "s1"}
    analytical = {**own, "activation_gib": 3.0, "source": "s1"}
    ended = {**own, "outcome": "OOM", "source": "s2", "micro_batch": 2}
    found = points({}, memory_points=[kept, analytical, ended]).memory_rows
    assert [each.truth.out_of_memory for each in found] == [False, True]
    assert (found[0].input.dp, found[0].input.global_batch) == (4, 16)
    assert (found[1].input.dp, found[1].input.global_batch) == (4, None)


def test_a_planner_sees_no_origin_and_no_measured_figure(published: dict[str, Any]) -> None:
    """The inputs of all rows stay equal whatever the hidden and the measured fields hold."""
    names = {field.name for field in dataclasses.fields(RowInput)}
    assert not names & (HIDDEN | set(MEASURED) | {"model_name"})
    changed = copy.deepcopy(published)
    draw = random.Random(7)
    for each in changed["points"]:
        for name in MEASURED:
            if each.get(name) is not None:
                each[name] = draw.uniform(1.0, 100.0)
        each.update(tag="demo", notes="other", date="1999-01-01", recompute_hint="none", sweep_group=None)
        each["id"] = f"{draw.random()}"
    before, after = points_of(published, []), points_of(changed, [])
    assert [each.input for each in after.rows] == [each.input for each in before.rows]
    assert after.rows[0].truth.step_s != before.rows[0].truth.step_s


def _without(name: str) -> dict[str, Any]:
    broken = document({}, {})
    del broken["points"][1][name]
    return broken


def _with(name: str, value: object) -> dict[str, Any]:
    return document({}, {name: value})


def _model_with(name: str, value: object) -> dict[str, Any]:
    broken = document({}, {})
    broken["models"]["small"][name] = value
    return broken


@pytest.mark.parametrize(
    ("broken", "path", "said"),
    [
        (_without("model"), "points[1].model", "row 'row-1': is missing"),
        (_without("devices"), "points[1].devices", "row 'row-1': is missing"),
        (_without("recompute"), "points[1].recompute", "row 'row-1': is missing"),
        (_without("source"), "points[1].source", "row 'row-1': is missing"),
        (_with("devices", -8), "points[1].devices", "found -8; allowed: a whole number of at least 1"),
        (_with("tp", True), "points[1].tp", "found True"),
        (_with("seq_len", "long"), "points[1].seq_len", "found 'long'"),
        (_with("step_time_s", 0), "points[1].step_time_s", "found 0; allowed: a number above 0"),
        (_with("step_time_s", float("nan")), "points[1].step_time_s", "found nan"),
        (_with("model", "smull"), "points[1].model", "did you mean small?"),
        (_with("hardware", "cart"), "points[1].hardware", "allowed: card, chip; did you mean card?"),
        (_with("source", "s9"), "points[1].source", "allowed: s1, s2"),
        (_with("placement", [8, 0]), "points[1].placement", "a list of whole numbers"),
        (_with("compile", "yes"), "points[1].compile", "true or false"),
        (_with("stages", [{"layers": 3}]), "points[1].stages[0].replicas", "a list of mappings"),
        (_model_with("kv_heads", 3), "models.small.kv_heads", "a divisor of the 8 heads"),
        (_model_with("act", "swigloo"), "models.small.act", "did you mean swiglu?"),
        (_model_with("hidden", None), "models.small.hidden", "model 'small': is missing"),
        ({**document({}), "points": []}, "points", "no row"),
        ({**document({}), "models": 3}, "models", "found 3; allowed: a mapping of fields"),
        ([1, 2], "", "found [1, 2]"),
    ],
)
def test_what_is_wrong_is_named_with_row_field_and_line(broken: object, path: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump(broken, sort_keys=False))
    with pytest.raises(SpecError) as caught:
        read_points(file)
    problem = next(each for each in caught.value.problems if each.path == path)
    assert said in problem.render()
    if path.startswith("points[1]"):
        lines = file.read_text().splitlines()
        starts = [number for number, line in enumerate(lines, start=1) if line.startswith("- id:")]
        assert problem.line is not None
        assert problem.line >= starts[1]


def test_a_wrong_model_is_named_once_and_not_for_each_of_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump(_model_with("layers", 0)))
    with pytest.raises(SpecError) as caught:
        read_points(file)
    assert [problem.path for problem in caught.value.problems] == ["models.small.layers"]


@pytest.mark.parametrize("text", ["points: [", "\x00", ""])
def test_a_file_that_is_no_document_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=r"not YAML|the file"):
        read_points(file)
    with pytest.raises(SpecError, match="cannot be read"):
        read_points(tmp_path / "missing.yaml")
