"""Errors of a user's code as one line that says where: the module of the model, file and line."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import torch
from torch import nn

_TORCH = str(Path(torch.__file__).parent)
_OWN = str(Path(__file__).parent)
_NEEDS_VALUES = (
    "meta tensor",
    "data-dependent",
    "data-independent",
    "data dependent",
    "DataDependent",
    "'Meta' backend",
    "device type 'meta'",
)
_MAX_LINE = 300


class TraceError(Exception):
    """The model cannot be traced. ``str`` is one line; ``details`` the traceback of the user's code."""

    def __init__(self, message: str, *, details: str = "") -> None:
        self.details = details
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """Text without line breaks and control characters, shortened."""
    flat = "".join(c if c.isprintable() else " " for c in text)
    flat = " ".join(flat.split())
    return flat if len(flat) <= _MAX_LINE else flat[: _MAX_LINE - 3] + "..."


def said(error: BaseException) -> str:
    """Class and message of an error; one whose own message fails has none."""
    try:
        text = str(error)
    except Exception:
        text = ""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def details(error: BaseException) -> str:
    """The traceback as Python prints it."""
    return "".join(traceback.format_exception(error))


def place(error: BaseException) -> str:
    """`` at file.py:12`` of the innermost frame that is neither torch's nor ours; empty where there is none."""
    found = ""
    for frame in _frames(error.__traceback__):
        name = frame.tb_frame.f_code.co_filename
        if not name.startswith((_TORCH, _OWN, "<")):
            found = f" at {Path(name).name}:{frame.tb_lineno}"
    return found


def submodule(error: BaseException, names: Mapping[int, str]) -> str:
    """`` in 'encoder.layers.0' (Block)`` of the innermost module whose method was running; ``names`` by id of the module."""
    found = ""
    for frame in _frames(error.__traceback__):
        module = frame.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module) and id(module) in names:
            name = names[id(module)]
            found = f" in {name!r} ({type(module).__name__})" if name else f" in the model ({type(module).__name__})"
    return found


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, as Python or as torch says it."""
    texts = ("not enough memory", "annot allocate memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(text in said_fully(error) for text in texts)


def needs_values(error: BaseException) -> bool:
    """Whether an error of a pass on meta tensors means that the code asked for the tensors' values."""
    if isinstance(error, MemoryError):
        return False
    return any(text in said_fully(error) for text in _NEEDS_VALUES)


def said_fully(error: BaseException) -> str:
    """Class and whole message."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _frames(start: TracebackType | None) -> list[TracebackType]:
    frames = []
    while start is not None:
        frames.append(start)
        start = start.tb_next
    return frames
