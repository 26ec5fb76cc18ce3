"""A model as a document: what a tracer measured, with where it comes from. JSON by ``trimtab.wire``, versioned.

A document comes from outside (a file that anybody may have written), so its size, depth and every number in it are bounded before
anything is counted with it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.errors import Problem, SpecError
from trimtab.inventory import DeviceKind
from trimtab.model import ModelSpec
from trimtab.spec.fields import Reading, nearest, shown
from trimtab.wire import WireError, decode

VERSION = 1
MAX_DOCUMENT_BYTES = 16_000_000
MAX_PARTS = 10_000
_MAX_TEXT = 4096
_MAX_COUNT = 10**15
_MAX_FIGURE = 1e30
_LIMITS = {"num_layers": 10_000, "num_heads": 100_000, "num_experts": 100_000, "hidden_size": 10**7, "vocab_size": 10**8}
"""Counts that code loops over or multiplies: bounded as in a job file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedInput:
    """One input as it was given. ``dims`` names its dimensions (``BxSx64``): B is the batch, S the sequence."""

    name: str
    dims: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOrigin:
    """What was traced. ``config`` are the callable's keyword arguments as JSON text.

    The figures of the model hold at ``batch`` samples of ``sequence_length`` tokens (None: no input has a sequence); ``notes``
    say in words where they do not carry over to others. ``device`` is the kind whose kernels of attention and dropout were
    assumed.
    """

    tool: str
    target: str
    config: Mapping[str, str]
    torch_version: str
    python_version: str
    inputs: tuple[TracedInput, ...]
    batch: int
    sequence_length: int | None = None
    device: DeviceKind = DeviceKind.GPU
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartMeasure:
    """What one part did in the traced forward pass, all samples together.

    ``kind`` is its class; ``run`` names the run of equal blocks that it belongs to. ``bytes_moved`` are read and written by
    operators that are no matrix product, convolution or attention; ``kept_bytes`` stay for the backward pass.
    ``square_flops`` is the share of ``forward_flops`` that grows with the square of the sequence length.
    """

    name: str
    kind: str
    num_parameters: int
    num_trainable: int
    forward_flops: int
    bytes_moved: int
    kept_bytes: int
    square_flops: float = 0.0
    run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDocument:
    """A model with its origin. ``measures`` has one entry per part of the model, in the order in which they first ran.

    ``backward_flops`` is None where the backward pass could not be traced. ``element_bytes`` is the size of the elements that
    the model's activations are counted in.
    """

    version: int
    origin: ModelOrigin
    model: ModelSpec
    measures: tuple[PartMeasure, ...] = ()
    element_bytes: int = 4
    backward_flops: int | None = None


def load_document(path: Path, *, where: str = "document") -> ModelDocument:
    """The document in a file. Raises SpecError naming the field below ``where``, what was found and what is allowed."""
    try:
        if path.exists() and not path.is_file():  # a pipe would keep the reader waiting
            raise _wrong(where, f"{path} is no file", "a file that trimtab trace wrote")
        with path.open("rb") as file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise _wrong(where, f"cannot read {shown(str(path))}: {said}", "a file that trimtab trace wrote") from None
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise _wrong(where, f"{path} is too large", f"at most {MAX_DOCUMENT_BYTES} bytes")
    return parse_document(raw, where=where, source=str(path))


def parse_document(raw: bytes, *, where: str = "document", source: str = "the document") -> ModelDocument:
    """The document in bytes; see ``load_document``."""
    try:
        data = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _wrong(where, f"{source} is no JSON document: {said}", "a file that trimtab trace wrote") from None
    if not isinstance(data, dict):
        raise _wrong(where, f"{source} holds {shown(data)}", "an object with version, origin and model")
    version = data.get("version")
    if type(version) is not int or version != VERSION:
        raise _wrong(f"{where}.version", f"found {shown(version)}", str(VERSION), nearest=str(VERSION))
    _known_keys(data, where)
    problem = next(_bounds(data, where), None)
    if problem is not None:
        raise SpecError([problem])
    try:
        document = decode(ModelDocument, data, where)
    except WireError as error:
        field, _, said = str(error).partition(": ")
        raise _wrong(field, said or "wrong", "what docs/tracing.md describes") from None
    _agrees(document, where)
    return document


def read_document(reading: Reading, path: Path) -> ModelSpec | None:
    """The model of a job file's ``model.document``; None after noting a problem."""
    try:
        return load_document(path, where="model.document").model
    except SpecError as error:
        for problem in error.problems:
            reading.problem(problem.path, problem.message, allowed=problem.allowed, nearest=problem.nearest)
        return None


def _wrong(path: str, message: str, allowed: str, *, nearest: str | None = None) -> SpecError:
    return SpecError([Problem(path=path, message=message, allowed=allowed, nearest=nearest)])


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _known_keys(data: Mapping[str, Any], where: str) -> None:
    names = [field.name for field in dataclasses.fields(ModelDocument)]
    for key in data:
        if key not in names:
            raise _wrong(f"{where}.{shown(key)[1:-1]}", "unknown key", ", ".join(names), nearest=nearest(key, names))


def _bounds(data: Any, path: str) -> Iterator[Problem]:
    """Values that are too large to count with; walks without recursion, and json has bounded the depth before."""
    open_ends: list[tuple[str, str, Any]] = [(path, "", data)]
    while open_ends:
        where, key, value = open_ends.pop()
        allowed = _out_of_bounds(key, value)
        if allowed is not None:
            yield Problem(path=where, message=f"found {_size(value)}", allowed=allowed)
        elif isinstance(value, dict):
            open_ends.extend((f"{where}.{shown(name)[1:-1]}", name, item) for name, item in value.items())
        elif isinstance(value, list):
            open_ends.extend((f"{where}[{index}]", "", item) for index, item in enumerate(value))


def _out_of_bounds(key: str, value: Any) -> str | None:
    """What is allowed where ``value`` is not; None where it is."""
    match value:
        case bool() | None:
            return None
        case int():
            limit = _LIMITS.get(key, _MAX_COUNT)
            return None if 0 <= value <= limit else f"a number from 0 to {limit}"
        case float():
            return None if math.isfinite(value) and 0 <= value <= _MAX_FIGURE else f"a finite number from 0 to {_MAX_FIGURE:g}"
        case str():
            fits = len(value) <= _MAX_TEXT and value.isprintable() and value not in ("inf", "-inf", "nan")
            return None if fits else f"printable text of at most {_MAX_TEXT} characters, or a finite number"
        case _:
            return None if len(value) <= MAX_PARTS else f"at most {MAX_PARTS} entries"


def _size(value: Any) -> str:
    return f"{len(value)} entries" if isinstance(value, dict | list) else shown(value)


def _agrees(document: ModelDocument, where: str) -> None:
    """Measures belong to parts, and no part has two names."""
    names = [part.name for part in document.model.parts]
    double = next((name for name, count in Counter(names).items() if count > 1), None)
    if double is not None:
        raise _wrong(f"{where}.model.parts", f"two parts have the name {shown(double)}", "a name of its own for each part")
    if document.measures and [measure.name for measure in document.measures] != names:
        allowed = "one entry per part of the model, in the same order"
        raise _wrong(f"{where}.measures", f"found {len(document.measures)} entries for {len(names)} parts", allowed)
    num_layers = document.model.num_layers
    if num_layers > _LIMITS["num_layers"]:
        raise _wrong(f"{where}.model.stacks", f"found {num_layers} layers", f"at most {_LIMITS['num_layers']} layers in all")
    if not 1 <= document.element_bytes <= 16:
        raise _wrong(f"{where}.element_bytes", f"found {document.element_bytes}", "1 to 16", nearest="4")
