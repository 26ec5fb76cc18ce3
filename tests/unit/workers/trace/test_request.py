"""What a person types for the tracer."""

from __future__ import annotations

import json

import pytest

from trimtab.errors import SpecError
from workers.trace.main import Ended, explain
from workers.trace.request import TraceAnswer, check_target, read_config, read_inputs, resized


def test_inputs_have_shapes_types_and_symbols() -> None:
    image, tokens = read_inputs(("image=Bx3x8x8", "tokens=BxS:int64"), batch=4, sequence_length=16)
    assert (image.shape, image.dtype, image.dims) == ((4, 3, 8, 8), "float32", "Bx3x8x8")
    assert (tokens.shape, tokens.dtype) == ((4, 16), "int64")
    assert resized(tokens, batch=8, sequence_length=4).shape == (8, 4)
    assert resized(image, batch=1, sequence_length=4).shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("texts", "length", "words"),
    [
        ((), None, "found 0 inputs"),
        (("x=B",) * 65, None, "found 65 inputs"),
        (("x=B", "x=B"), None, "a name of its own"),
        (("x",), None, "NAME=SHAPE:DTYPE"),
        (("x=",), None, "found the dimension ''"),
        (("x=Bx0",), None, "found the dimension '0'"),
        (("x=Bx99999999999",), None, "found the dimension"),
        (("x=Bx1000000000x1000000000",), None, "elements"),
        (("x=" + "x".join("B" * 9),), None, "found 9 dimensions"),
        (("x=BxS",), None, "missing; the shape BxS has a sequence"),
        (("x=Bx3",), 8, "no input has a sequence dimension"),
        (("x=3",), None, "no input has a batch dimension"),
        (("x=B:int",), None, "unknown type 'int'"),
    ],
)
def test_wrong_inputs(texts: tuple[str, ...], length: int | None, words: str) -> None:
    with pytest.raises(SpecError, match=words.replace("(", "\\(")):
        read_inputs(texts, batch=2, sequence_length=length)


def test_config_values_are_json_or_text() -> None:
    config = read_config(("a=3", "b=[1, 2]", "c=small", "d=", "e=true", "f=x=y"))
    assert {key: json.loads(text) for key, text in config.items()} == {
        "a": 3,
        "b": [1, 2],
        "c": "small",
        "d": "",
        "e": True,
        "f": "x=y",
    }
    for wrong in ("a", "=3", "a b=3", "1=2"):
        with pytest.raises(SpecError, match="--config"):
            read_config((wrong,))


@pytest.mark.parametrize("text", ["", "a", ":", "a:", ":b", "a:b c", "a:1"])
def test_a_target_names_a_callable(text: str) -> None:
    with pytest.raises(SpecError, match=r"package\.module:callable"):
        check_target(text)
    assert check_target("a.b:c") == "a.b:c"
    assert check_target("dir/a.py:c") == "dir/a.py:c"


def test_how_a_process_ended_is_one_line() -> None:
    assert explain(Ended(code=None, answer=None, tail=""), time_limit_s=5) == (
        "not done after 5 s, so it was ended; --time-limit gives it more"
    )
    assert explain(Ended(code=-9, answer=None, tail=""), time_limit_s=5) == (
        "the tracing process was ended by SIGKILL; too little memory?"
    )
    assert explain(Ended(code=-11, answer=None, tail=""), time_limit_s=5) == "the tracing process was ended by SIGSEGV"
    assert explain(Ended(code=1, answer=None, tail="a\nboom\n\n"), time_limit_s=5) == (
        "the tracing process ended with exit code 1: boom"
    )
    assert explain(Ended(code=0, answer=TraceAnswer(error="no"), tail=""), time_limit_s=5) == "no"
