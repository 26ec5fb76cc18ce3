"""The text of a ``config.json`` as plain values, with the line of every key; hostile text is refused before it is parsed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from trimtab.errors import Problem, SpecError
from trimtab.spec.huggingface.limits import MAX_CONFIG_BYTES, MAX_KEYS, MAX_NESTING

_MARK = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{}\[\],:]|\n')
_ALLOWED = "a model's config.json"
MAX_DIGITS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """``values`` is the object of the file, ``lines`` the line (from 1) of each key by dotted path."""

    values: Mapping[str, Any]
    lines: Mapping[str, int]


@dataclass(slots=True)
class _Frame:
    """An object or a list that is open while its text is read."""

    path: str
    is_object: bool
    keys: set[str] = field(default_factory=set)
    expects_key: bool = True
    key: str = ""
    index: int = 0

    def inner(self) -> str:
        """Path of the value that comes next."""
        own = self.key if self.is_object else f"[{self.index}]"
        return own if not self.path else f"{self.path}.{own}" if self.is_object else self.path + own


def read_document(path: Path) -> Document:
    """The file's tree. A folder stands for the ``config.json`` in it. Raises SpecError naming what is wrong and where."""
    try:
        file = path / "config.json" if path.is_dir() else path
        if file.exists() and not file.is_file():
            _fail("not a regular file", line=None)
        if file.stat().st_size > MAX_CONFIG_BYTES:
            _fail(f"larger than {MAX_CONFIG_BYTES} bytes", line=None)
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        raise SpecError([Problem(path="", message=f"cannot be read: {_reason(error)}", allowed=_ALLOWED)]) from None
    return parse_document(data)


def parse_document(data: bytes) -> Document:
    """The tree of a config's bytes; raises SpecError where they are no JSON object in UTF-8, or one that no model has."""
    lines = _scan(_text(data))
    try:
        tree = json.loads(data.decode("utf-8"), parse_constant=_constant, parse_int=_whole, parse_float=_real)
    except json.JSONDecodeError as error:
        _fail(f"not JSON: {error.msg} (column {error.colno})", line=error.lineno)
    except RecursionError:
        _fail("nested too deeply", line=None)
    if not isinstance(tree, dict):
        _fail(f"holds a {type(tree).__name__}, no object", line=1)
    return Document(values=tree, lines=lines)


def _text(data: bytes) -> str:
    if not data.strip():
        _fail("empty", line=None)
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        _fail("starts with a byte order mark", line=1, allowed="UTF-8 without a byte order mark")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        _fail(f"not UTF-8 (byte {error.start})", line=data.count(b"\n", 0, error.start) + 1, allowed="UTF-8")


def _scan(text: str) -> dict[str, int]:
    """Lines of all keys, without recursion; refuses what is nested too deeply, and keys that stand twice."""
    lines: dict[str, int] = {}
    frames: list[_Frame] = []
    line = 1
    for match in _MARK.finditer(text):
        mark = match.group()
        frame = frames[-1] if frames else None
        if mark == "\n":
            line += 1
        elif mark in "{[":
            if len(frames) >= MAX_NESTING:
                _fail(f"nested deeper than {MAX_NESTING} levels", line=line, allowed=f"at most {MAX_NESTING} levels")
            frames.append(_Frame(path=frame.inner() if frame else "", is_object=mark == "{"))
        elif frame is None:
            continue
        elif mark in "}]":
            frames.pop()
        elif mark == ",":
            frame.expects_key, frame.index = True, frame.index + 1
        elif mark.startswith('"') and frame.is_object and frame.expects_key:
            _key(frame, mark, line, lines)
    return lines


def _key(frame: _Frame, token: str, line: int, lines: dict[str, int]) -> None:
    try:
        frame.key = json.loads(token)
    except ValueError:
        return
    frame.expects_key = False
    if frame.key in frame.keys:
        raise SpecError([Problem(path=frame.inner(), message="stands twice", line=line, allowed="every key once")])
    frame.keys.add(frame.key)
    lines[frame.inner()] = line
    if len(lines) > MAX_KEYS:
        _fail(f"more than {MAX_KEYS} keys", line=line, allowed=f"at most {MAX_KEYS} keys")


def _constant(text: str) -> NoReturn:
    _fail(f"found {text}", line=None, allowed="finite numbers")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        _fail(f"found a number of {len(text)} digits", line=None, allowed=f"at most {MAX_DIGITS} digits")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        _fail(f"found {text[:40]}", line=None, allowed="finite numbers")
    return value


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _fail(message: str, *, line: int | None, allowed: str = _ALLOWED) -> NoReturn:
    raise SpecError([Problem(path="", message=message, line=line, allowed=allowed)])
