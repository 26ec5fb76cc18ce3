"""Whatever tree comes in, the job file's check answers with a JobSpec or a SpecError, never with anything else."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.entrypoints.documents import read_text
from tests.support.long import in_long_form
from trimtab import wire
from trimtab.errors import SpecError
from trimtab.jobspec import JobSpec
from trimtab.spec import parse_job
from trimtab.spec.schema import JOB

KEYS = [*JOB.fields, "kind", "steps", "layers", "heads", "preset", "count", "argv", "on", "", "x"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["train", "command", "decoder", "stdlib", "1..8", "30s", "15B", "5%", "gpt2", "$5"])
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=8), max_leaves=30
)
GOOD = {
    "kind": "train",
    "name": "x",
    "model": {"family": "decoder", "layers": 2, "hidden_size": 32, "heads": 2, "feed_forward_size": 64, "vocab_size": 64},
    "data": {"kind": "stdlib"},
    "workload": {"steps": 5, "sequence_length": 16, "global_batch": 4},
}


def check(tree: object) -> None:
    problems = None
    try:
        spec = parse_job(tree, base_dir=Path("/nonexistent"))
        assert wire.loads(JobSpec, wire.dumps(spec)) == spec
    except SpecError as error:
        problems = error.problems
    if problems is not None:
        assert problems
        assert all(problem.message for problem in problems)


@given(TREES)
@settings(max_examples=in_long_form(300, 6_000), deadline=None)
def test_any_tree(tree: object) -> None:
    check(tree)


@given(st.sampled_from(["model", "data", "workload", "devices", "strategy", "limits", "retry", "checkpoint"]), st.data())
@settings(max_examples=in_long_form(300, 6_000), deadline=None)
def test_a_good_job_with_one_part_replaced(section: str, data: st.DataObject) -> None:
    schema = JOB.fields[section].kind
    keys = list(schema.fields)  # type: ignore[attr-defined]
    part = data.draw(st.dictionaries(st.sampled_from(keys), SCALARS, max_size=6) | SCALARS)
    check({**GOOD, section: part})


@given(st.text(max_size=200))
@settings(max_examples=in_long_form(300, 6_000), deadline=None)
def test_any_text(text: str) -> None:
    try:
        tree, _ = read_text(text)
    except SpecError:
        return
    check(tree)


def test_the_good_job_is_good() -> None:
    assert parse_job(json.loads(json.dumps(GOOD)), base_dir=Path()).name == "x"
