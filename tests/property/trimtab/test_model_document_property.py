"""Whatever bytes come in, a model's document is read or refused with a SpecError, and what is read can be counted."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from planner.models.counts import layers_in_order, model_parameters, sample_flops
from tests.support.long import in_long_form
from tests.support.planning import GPT2_SMALL, tiny_translator
from trimtab.errors import SpecError
from trimtab.spec.model_document import VERSION, ModelDocument, ModelOrigin, parse_document
from trimtab.wire import dumps, encode

ORIGIN = ModelOrigin(
    tool="t", target="a:b", config={}, torch_version="2", python_version="3", inputs=(), batch=1, sequence_length=16
)
GOOD = tuple(encode(ModelDocument(version=VERSION, origin=ORIGIN, model=model)) for model in (GPT2_SMALL, tiny_translator()))
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 10**17)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["encoder", "decoder", "tower", "nan", "inf", "convolutional"])
    | st.sampled_from(["[]", "{}", "[[]]", "[{}]", '{"a": 1}']).map(json.loads)
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, value in entries for place in places(value, (*path, key)))]


def check(raw: bytes) -> None:
    problems, document = (), None
    try:
        document = parse_document(raw)
    except SpecError as error:
        problems = error.problems
    if document is None:
        assert problems
        assert all(problem.path and problem.message and problem.allowed for problem in problems)
        return
    assert parse_document(dumps(document).encode()) == document
    assert model_parameters(document.model).total >= 0
    assert math.isfinite(sample_flops(document.model, sequence_length=16, source_length=16).training)
    assert len(layers_in_order(document.model)) == document.model.num_layers


@given(st.sampled_from(GOOD), st.data())
@settings(max_examples=in_long_form(300, 6_000), deadline=None)
def test_a_good_document_with_values_replaced_or_left_out(good: Any, data: st.DataObject) -> None:
    tree = json.loads(json.dumps(good))
    for _ in range(data.draw(st.integers(1, 3))):
        *outer, last = data.draw(st.sampled_from(places(tree)[1:]))
        inner = tree
        for key in outer:
            inner = inner[key]
        if data.draw(st.booleans()):
            inner[last] = data.draw(VALUES)
        else:
            del inner[last]
        if not tree:
            return
    check(json.dumps(tree).encode())


@given(
    st.binary(max_size=200)
    | st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(
        lambda tree: json.dumps(tree).encode()
    )
)
@example(b'{"version": 1, "model": {"hidden_size": 1e400}}')
@settings(max_examples=in_long_form(300, 6_000), deadline=None)
def test_any_bytes(raw: bytes) -> None:
    check(raw)
