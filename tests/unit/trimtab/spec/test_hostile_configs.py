"""Broken and hostile ``config.json`` files: every one is refused in words, at once, naming the key and its line."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from trimtab.errors import SpecError
from trimtab.spec.huggingface import model_from_config, model_from_file, parse_document

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 512,
}
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
GEMMA = {**LLAMA, "model_type": "gemma3_text", "head_dim": 16}
LLAVA = {"model_type": "llava", "text_config": LLAMA, "vision_config": {"model_type": "clip_vision_model"}}
LIMIT_S = 1.0


def text(values: Any) -> bytes:
    return json.dumps(values, indent=1).encode()


def raw(key: str, value: str, base: dict[str, Any] = LLAMA) -> bytes:
    """A config in which one value is written as given, valid JSON or not."""
    return text({**base, key: "@@"}).replace(b'"@@"', value.encode())


def nested(depth: int) -> bytes:
    return b'{"model_type": "llama", "hidden_size": ' + b"[" * depth + b"]" * depth + b"}"


def objects(depth: int) -> bytes:
    return b'{"model_type": "llava", "text_config": ' * depth + b"1" + b"}" * depth


VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "no model_type": ({"hidden_size": 64}, "model_type: missing"),
    "unknown model_type": ({**LLAMA, "model_type": "qwen9"}, "model_type: 'qwen9' is not known"),
    "model_type of a number": ({**LLAMA, "model_type": 3}, "model_type: found 3"),
    "model_type null": ({**LLAMA, "model_type": None}, "model_type: found None"),
    "model_type of a list": ({**LLAMA, "model_type": ["llama"]}, "model_type: found list"),
    "no size": ({**LLAMA, "hidden_size": None}, "hidden_size: found None"),
    "negative size": ({**LLAMA, "hidden_size": -64}, "hidden_size: found -64"),
    "no layers": ({**LLAMA, "num_hidden_layers": 0}, "num_hidden_layers: found 0"),
    "no heads": ({**LLAMA, "num_attention_heads": 0}, "num_attention_heads: found 0"),
    "no words": ({**LLAMA, "vocab_size": 0}, "vocab_size: found 0"),
    "fraction": ({**LLAMA, "hidden_size": 64.5}, "hidden_size: found 64.5"),
    "float of a whole number": ({**LLAMA, "num_hidden_layers": 2.0}, "num_hidden_layers: found 2.0"),
    "number in quotes": ({**LLAMA, "intermediate_size": "128"}, "intermediate_size: found '128'"),
    "true for one": ({**LLAMA, "num_key_value_heads": True}, "num_key_value_heads: found True"),
    "one for true": ({**LLAMA, "attention_bias": 1}, "attention_bias: found 1"),
    "list for a number": ({**LLAMA, "vocab_size": [512]}, "vocab_size: found list"),
    "object for a number": ({**LLAMA, "vocab_size": {"size": 512}}, "vocab_size: found dict"),
    "ten thousand and one layers": ({**LLAMA, "num_hidden_layers": 10_001}, "num_hidden_layers: found 10001.*at most 10000"),
    "absurd width": ({**LLAMA, "hidden_size": 10**18}, "hidden_size: found 10+.*at most 10000000"),
    "absurd vocabulary": ({**LLAMA, "vocab_size": 10**12}, "vocab_size: found 10+.*at most 100000000"),
    "heads that do not divide": ({**LLAMA, "num_attention_heads": 5}, "num_attention_heads: 5 does not divide hidden_size 64"),
    "key heads that do not divide": ({**LLAMA, "num_key_value_heads": 3}, "num_key_value_heads: 3 does not divide"),
    "unknown activation": ({**LLAMA, "hidden_act": "sillu"}, "hidden_act: found 'sillu'.*did you mean 'silu'"),
    "misspelt key": (
        {key: value for key, value in LLAMA.items() if key != "intermediate_size"} | {"intermediate_sise": 12},
        "intermediate_sise: unknown key.*did you mean 'intermediate_size'",
    ),
    "more chosen than there are": ({**MIXTRAL, "num_experts_per_tok": 5}, "num_experts_per_tok: found 5.*at most 4 experts"),
    "no experts": ({**MIXTRAL, "num_local_experts": 0}, "num_local_experts: found 0"),
    "layer_types too short": ({**GEMMA, "layer_types": ["full_attention"]}, "layer_types: found 1 entries.*each of the 2 layers"),
    "layer_types of unknown words": (
        {**GEMMA, "layer_types": ["full_attention", "sliding"]},
        "layer_types: found 'sliding'.*did you mean 'sliding_attention'",
    ),
    "layer_types of numbers": ({**GEMMA, "layer_types": [1, 2]}, "layer_types: found list"),
    "window of nothing": ({**GEMMA, "sliding_window": 0}, "sliding_window: found 0"),
    "unknown class": ({**LLAMA, "architectures": ["LlamaForDancing"]}, "architectures: found 'LlamaForDancing'"),
    "architectures of a word": ({**LLAMA, "architectures": "LlamaForCausalLM"}, "architectures: found 'LlamaForCausalLM'"),
    "text_config of a list": ({**LLAVA, "text_config": [LLAMA]}, "text_config: found list"),
    "text_config of itself": ({**LLAVA, "text_config": LLAVA}, r"text_config\.model_type: 'llava' is not known here"),
    "broken text_config": ({**LLAVA, "text_config": {**LLAMA, "hidden_size": -1}}, r"text_config\.hidden_size: found -1"),
    "picture smaller than a patch": (
        {"model_type": "vit", "image_size": 8, "patch_size": 16},
        "patch_size: found 16 x 16.*at most image_size 8 x 8",
    ),
    "unequal lists": ({"model_type": "resnet", "depths": [1, 2], "hidden_sizes": [8]}, "hidden_sizes: found 1 numbers"),
    "no stages": ({"model_type": "convnext", "depths": []}, "depths: found an empty list"),
    "absurd repeats": ({"model_type": "efficientnet", "num_block_repeats": [10**6] * 7}, "num_block_repeats.*at most 1000"),
    "unknown kind of block": ({"model_type": "resnet", "layer_type": "botleneck"}, "layer_type.*did you mean 'bottleneck'"),
}
TEXTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "blanks": (b" \n\t ", "empty"),
    "binary": (bytes(range(256)), "not UTF-8"),
    "zeros": (b"\0" * 64, "not JSON"),
    "byte order mark": (b"\xef\xbb\xbf" + text(LLAMA), "byte order mark"),
    "UTF-16": (json.dumps(LLAMA).encode("utf-16"), "byte order mark"),
    "UTF-16 without a mark": (json.dumps({**LLAMA, "x": "ÿ"}, ensure_ascii=False).encode("utf-16-le"), "not UTF-8|not JSON"),
    "a list": (text([LLAMA]), "holds a list, no object"),
    "a number": (b"12", "holds a int, no object"),
    "cut off": (text(LLAMA)[:-30], "not JSON"),
    "two objects": (text(LLAMA) + text(LLAMA), "not JSON: Extra data"),
    "a comment": (b"{// no\n}", "not JSON"),
    "not a number": (raw("hidden_size", "NaN"), "found NaN"),
    "infinite": (raw("hidden_size", "Infinity"), "found Infinity"),
    "minus infinite": (raw("rms_norm_eps", "-Infinity"), "found -Infinity"),
    "infinite by its exponent": (raw("hidden_size", "1e400"), "found 1e400"),
    "1e30": (raw("hidden_size", "1e30"), r"hidden_size: found 1e\+30"),
    "10 to the 400th": (raw("hidden_size", "1" + "0" * 400), "found a number of 401 digits"),
    "10 to the 5000th": (raw("hidden_size", "1" + "0" * 5000), "found a number of 5001 digits"),
    "lists 10000 deep": (nested(10_000), "nested deeper than 64 levels"),
    "objects 10000 deep": (objects(10_000), "nested deeper than 64 levels"),
    "a key twice": (b'{"model_type": "llama",\n "hidden_size": 64,\n "hidden_size": 65}', ":3:1: hidden_size: stands twice"),
    "a nested key twice": (b'{"model_type": "llava", "text_config": {"a": 1, "a": 2}}', r"text_config\.a: stands twice"),
    "a hundred thousand keys": (
        b'{"model_type": "llama", ' + b", ".join(b'"%d": 1' % n for n in range(60_000)) + b"}",
        "more than 20000 keys",
    ),
    "lone quotes": (b'{"model_type": "llama\n}', "not JSON"),
}  # fmt: skip


def refused(read: Any) -> SpecError:
    before = time.monotonic()
    with pytest.raises(SpecError) as caught:
        read()
    assert time.monotonic() - before < LIMIT_S
    return caught.value


@pytest.mark.parametrize("name", VALUES)
def test_a_broken_value_is_named_with_its_key_and_line(name: str, tmp_path: Path) -> None:
    values, expected = VALUES[name]
    path = tmp_path / "config.json"
    path.write_bytes(text(values))
    error = refused(lambda: model_from_file(path))
    shown = "\n".join(problem.render(str(path)) for problem in error.problems)
    assert _matches(expected, shown), shown
    for problem in error.problems:
        assert problem.path
        leaf = problem.path.rpartition(".")[2]
        if f'"{leaf}":' in path.read_text():
            assert problem.line is not None
            assert f'"{leaf}"' in path.read_text().splitlines()[problem.line - 1]


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text_is_refused_at_once(name: str, tmp_path: Path) -> None:
    data, expected = TEXTS[name]
    path = tmp_path / "config.json"
    path.write_bytes(data)
    error = refused(lambda: model_from_file(path))
    assert _matches(expected, "\n".join(problem.render(str(path)) for problem in error.problems)), str(error)


def _matches(expected: str, shown: str) -> bool:
    return re.search(expected, shown) is not None


def test_every_problem_is_found_not_only_the_first() -> None:
    broken = {**LLAMA, "hidden_size": -1, "vocab_size": "many", "attention_bias": "yes"}
    error = refused(lambda: model_from_config(broken))
    assert {problem.path for problem in error.problems} == {"hidden_size", "vocab_size", "attention_bias"}


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(10**12)
    assert "larger than 1000000 bytes" in str(refused(lambda: model_from_file(path)))


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    assert "not a regular file" in str(refused(lambda: model_from_file(tmp_path / "config.json")))
    assert "not a regular file" in str(refused(lambda: model_from_file(tmp_path)))
    assert "cannot be read" in str(refused(lambda: model_from_file(tmp_path / "none" / "config.json")))
    assert "cannot be read" in str(refused(lambda: model_from_file(Path("a\0b"))))


def test_a_folder_stands_for_the_config_in_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(text(LLAMA))
    assert model_from_file(tmp_path) == model_from_file(tmp_path / "config.json")


def test_an_unknown_model_type_says_what_else_there_is() -> None:
    error = refused(lambda: model_from_config({**LLAMA, "model_type": "lama"}))
    (problem,) = error.problems
    assert problem.nearest == "'llama'"
    assert problem.allowed is not None
    assert "explicit fields" in problem.allowed
    assert "trimtab trace" in problem.allowed


def test_lines_of_nested_keys() -> None:
    document = parse_document(b'{\n"a": {\n"b": [1,\n{"c": 2}]},\n"d": 3}')
    assert document.lines == {"a": 2, "a.b": 3, "a.b[1].c": 4, "d": 5}
