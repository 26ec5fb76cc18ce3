"""What is to be traced, read from the command line, and how the tracing process answers. Imports no torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.errors import Problem, SpecError
from trimtab.inventory import DeviceKind
from trimtab.spec.fields import nearest, shown
from trimtab.spec.model_document import ModelDocument, TracedInput

DTYPES = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64")
BATCH, SEQUENCE = "B", "S"
MAX_INPUTS = 64
MAX_DIMENSIONS = 8
MAX_SIZE = 10**9
_INPUT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=([^:]*)(?::(.*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRequest:
    """``target`` is ``package.module:callable`` or ``path/to/file.py:callable``; ``config`` its keyword arguments as JSON text.

    ``folder`` is where names and paths start from, ``device`` (cpu or gpu) whose kernels are assumed. ``batch`` and
    ``sequence_length`` are the sizes of B and S in the inputs.
    """

    target: str
    config: Mapping[str, str]
    inputs: tuple[TracedInput, ...]
    batch: int
    sequence_length: int | None
    folder: str
    name: str
    memory_bytes: int
    time_limit_s: float
    device: DeviceKind = DeviceKind.GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceAnswer:
    """A document, or one line that says what went wrong, with the traceback of the user's code where there is one.

    ``wrong_use``: what was asked for is wrong, not the user's code.
    """

    document: ModelDocument | None = None
    error: str | None = None
    wrong_use: bool = False
    traceback: str = ""


def check_target(text: str) -> str:
    """The target as it is. Raises SpecError where it names no callable."""
    place, colon, name = text.rpartition(":")
    if not (colon and place and name.isidentifier()):
        raise _wrong("target", f"found {shown(text)}", "package.module:callable or path/to/file.py:callable")
    return text


def read_config(texts: Sequence[str]) -> dict[str, str]:
    """Keyword arguments from ``key=value`` texts: a value that is JSON stays so, any other is text. Raises SpecError."""
    config = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise _wrong("--config", f"found {shown(text)}", "key=value, such as width=256 or name=small")
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            value = json.dumps(value)
        config[key] = value
    return config


def read_inputs(texts: Sequence[str], *, batch: int, sequence_length: int | None) -> tuple[TracedInput, ...]:
    """Inputs from ``name=BxSx64:float32`` texts (the type is float32 where it is left out). Raises SpecError."""
    if not 1 <= len(texts) <= MAX_INPUTS:
        raise _wrong("--input", f"found {len(texts)} inputs", f"1 to {MAX_INPUTS}, such as --input image=Bx3x224x224:float32")
    inputs = tuple(_read_input(text, batch, sequence_length) for text in texts)
    names = [entry.name for entry in inputs]
    if len(set(names)) < len(names):
        raise _wrong("--input", f"found the names {', '.join(names)}", "a name of its own for each input")
    if not any(BATCH in entry.dims.split("x") for entry in inputs):
        raise _wrong("--input", "no input has a batch dimension", "B in at least one shape, such as image=Bx3x224x224:float32")
    if sequence_length is not None and not any(SEQUENCE in entry.dims.split("x") for entry in inputs):
        raise _wrong("--length", "no input has a sequence dimension", "S in a shape, such as tokens=BxS:int64, or no --length")
    return inputs


def resized(entry: TracedInput, *, batch: int, sequence_length: int | None) -> TracedInput:
    """The same input at another batch and length."""
    sizes = {BATCH: batch, SEQUENCE: sequence_length}
    shape = tuple(size for dim in _dims(entry.dims) if (size := sizes[dim] if dim in sizes else int(dim)) is not None)
    return TracedInput(name=entry.name, dims=entry.dims, shape=shape, dtype=entry.dtype)


def _read_input(text: str, batch: int, sequence_length: int | None) -> TracedInput:
    match = _INPUT.fullmatch(text)
    if match is None:
        raise _wrong("--input", f"found {shown(text)}", "NAME=SHAPE:DTYPE, such as tokens=BxS:int64")
    name, dims, dtype = match[1], match[2], match[3] or "float32"
    where = f"--input {name}"
    if dtype not in DTYPES:
        raise _wrong(where, f"unknown type {shown(dtype)}", ", ".join(DTYPES), nearest=nearest(dtype, DTYPES))
    found = _dims(dims)
    if len(found) > MAX_DIMENSIONS:
        raise _wrong(where, f"found {len(found)} dimensions", f"at most {MAX_DIMENSIONS}")
    for dim in found:
        if dim not in (BATCH, SEQUENCE) and not (re.fullmatch(r"[0-9]{1,10}", dim) and 1 <= int(dim) <= MAX_SIZE):
            raise _wrong(
                where, f"found the dimension {shown(dim)}", f"B, S or a number from 1 to {MAX_SIZE}, with x between them"
            )
    if SEQUENCE in found and sequence_length is None:
        raise _wrong("--length", f"missing; the shape {dims} has a sequence", "the number of tokens, such as --length 2048")
    made = resized(TracedInput(name=name, dims=dims, shape=(), dtype=dtype), batch=batch, sequence_length=sequence_length)
    if math.prod(made.shape) > 10**15:
        raise _wrong(where, f"found {math.prod(made.shape)} elements", "at most 1e15")
    return made


def _dims(dims: str) -> list[str]:
    return dims.split("x")


def _wrong(path: str, message: str, allowed: str, *, nearest: str | None = None) -> SpecError:
    return SpecError([Problem(path=path, message=message, allowed=allowed, nearest=nearest)])
