"""A model's document: read as it was written, and every bad one refused with the field, what was found and what is allowed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trimtab.errors import SpecError
from trimtab.model import ModelFamily, ModelSpec, PartSpec, PositionKind
from trimtab.spec import parse_job
from trimtab.spec.fields import Marks
from trimtab.spec.model_document import (
    MAX_DOCUMENT_BYTES,
    VERSION,
    ModelDocument,
    ModelOrigin,
    PartMeasure,
    TracedInput,
    load_document,
    parse_document,
)
from trimtab.wire import dumps, encode

MODEL = ModelSpec(
    name="net",
    family=ModelFamily.CONVOLUTIONAL,
    hidden_size=64,
    vocab_size=0,
    stacks=(),
    position=PositionKind.NONE,
    max_positions=1,
    tied_embeddings=False,
    has_head=False,
    parts=(
        PartSpec(name="stem", num_parameters=100, flops_per_sample=1e6, activations_per_sample=50.0),
        PartSpec(name="block", num_parameters=200, flops_per_token=3.0),
    ),
)
DOCUMENT = ModelDocument(
    version=VERSION,
    origin=ModelOrigin(
        tool="trimtab trace",
        target="nets:Net",
        config={"width": "64"},
        torch_version="2.6",
        python_version="3.11",
        inputs=(TracedInput(name="x", dims="Bx3x8x8", shape=(2, 3, 8, 8), dtype="float32"),),
        batch=2,
    ),
    model=MODEL,
    measures=tuple(
        PartMeasure(
            name=part.name,
            kind="Linear",
            num_parameters=part.num_parameters,
            num_trainable=0,
            forward_flops=1,
            bytes_moved=1,
            kept_bytes=1,
        )
        for part in MODEL.parts
    ),
)
JOB = {
    "kind": "train",
    "name": "mine",
    "data": {"kind": "stdlib"},
    "workload": {"steps": 1, "sequence_length": 16, "global_batch": 2},
}


def changed(path: str, value: Any) -> bytes:
    """The good document with one field changed."""
    tree = json.loads(dumps(DOCUMENT))
    *outer, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    inner = tree
    for key in outer:
        inner = inner[key]
    inner[last] = value
    return json.dumps(tree).encode()


def test_what_was_written_is_read() -> None:
    assert parse_document(dumps(DOCUMENT).encode()) == DOCUMENT


@pytest.mark.parametrize(
    ("path", "value", "field", "words"),
    [
        ("version", 2, "document.version", ("found 2", "allowed: 1")),
        ("version", True, "document.version", ("found True",)),
        ("version", "1", "document.version", ("found '1'",)),
        ("modelx", {}, "document.modelx", ("unknown key", "did you mean 'model'?")),
        ("model", [], "document.model", ("expected an object, found list",)),
        ("model.parts", [], "document.model", ("at least one stack or part",)),
        ("model.family", "decoder", "document.model", ("has stacks of the roles",)),
        ("model.family", "poem", "document.model.family", ("'poem' is not one of",)),
        ("model.hidden_size", 0, "document.model", ("hidden_size must be at least 1",)),
        ("model.hidden_size", 10**9, "document.model.hidden_size", ("found 1000000000", "0 to 10000000")),
        ("model.parts.0.num_parameters", "many", "document.model.parts[0].num_parameters", ("expected int, found str",)),
        ("model.parts.0.num_parameters", -1, "document.model.parts[0].num_parameters", ("found -1",)),
        ("model.parts.0.num_parameters", 10**16, "document.model.parts[0].num_parameters", ("found 1000",)),
        ("model.parts.1.flops_per_token", 1e40, "document.model.parts[1].flops_per_token", ("found 1e+40", "1e+30")),
        ("model.parts.1.flops_per_token", "inf", "document.model.parts[1].flops_per_token", ("found 'inf'", "a finite number")),
        ("model.parts.1.name", "stem", "document.model.parts", ("two parts have the name 'stem'",)),
        ("model.parts.1.name", "x" * 5000, "document.model.parts[1].name", ("at most 4096 characters",)),
        ("model.parts.1.name", "a\nb", "document.model.parts[1].name", ("printable text",)),
        ("model.parts", [{}] * 10_001, "document.model.parts", ("found 10001 entries", "at most 10000")),
        ("measures", [], None, ()),
        ("measures.0.name", "other", "document.measures", ("one entry per part",)),
        ("element_bytes", 0, "document.element_bytes", ("found 0", "1 to 16")),
        ("origin.inputs.0.shape", [2, "B"], "document.origin.inputs[0].shape[1]", ("expected int, found str",)),
        ("origin", None, "document.origin", ("expected an object",)),
    ],
)
def test_a_wrong_field_is_named(path: str, value: Any, field: str | None, words: tuple[str, ...]) -> None:
    if field is None:
        parse_document(changed(path, value))
        return
    with pytest.raises(SpecError) as caught:
        parse_document(changed(path, value))
    assert caught.value.problems[0].path == field
    assert caught.value.problems[0].allowed
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"null",
        b"NaN",
        b'{"version": NaN}',
        b"[" * 100_000,
        b'{"version":' * 50_000,
        b'{"version": ' + b"9" * 10_000 + b"}",
        b'{"version": 1}',
        dumps(DOCUMENT).encode()[:-9],
    ],
)
def test_what_is_no_document_is_refused(raw: bytes) -> None:
    with pytest.raises(SpecError):
        parse_document(raw)


def test_layers_are_bounded_in_all() -> None:
    layer = {
        "role": "decoder",
        "num_layers": 10_000,
        "attention": {"num_heads": 1, "num_kv_heads": 1, "head_size": 8},
        "feed_forward": {"hidden_size": 8},
    }
    tree = json.loads(dumps(DOCUMENT)) | {"measures": []}
    tree["model"] |= {"family": "decoder", "stacks": [layer, layer], "parts": [], "vocab_size": 8}
    with pytest.raises(SpecError, match="found 20000 layers"):
        parse_document(json.dumps(tree).encode())
    tree["model"]["stacks"] = [layer]
    assert parse_document(json.dumps(tree).encode()).model.num_layers == 10_000


def test_files_that_are_none(tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.write_bytes(b" " * (MAX_DOCUMENT_BYTES + 1))
    for path, words in [(pipe, "is no file"), (tmp_path, "is no file"), (tmp_path / "none", "cannot read"), (large, "too large")]:
        with pytest.raises(SpecError, match=words):
            load_document(path)
    with pytest.raises(SpecError, match="cannot read"):
        load_document(Path("a\0b"))


def job(folder: Path, model: dict[str, Any]) -> Any:
    return parse_job({**JOB, "model": model}, Marks(values={"model.document": (3, 19)}), base_dir=folder, source="job.yaml")


def test_a_job_names_a_document(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(dumps(DOCUMENT))
    assert job(tmp_path, {"document": "net.json"}).model == MODEL
    assert encode(job(tmp_path, {"document": "net.json"}).model) == encode(MODEL)


def test_a_job_is_told_where_its_document_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text(dumps(replace(DOCUMENT, version=7)))
    with pytest.raises(SpecError) as caught:
        job(tmp_path, {"document": "net.json"})
    assert str(caught.value) == "job.yaml:3:19: model.document.version: found 7; allowed: 1; did you mean 1?"
    with pytest.raises(SpecError, match="cannot read"):
        job(tmp_path, {"document": "none.json"})
    with pytest.raises(SpecError, match="found preset, document; allowed: one of: preset, config, document"):
        job(tmp_path, {"document": "net.json", "preset": "gpt2"})
