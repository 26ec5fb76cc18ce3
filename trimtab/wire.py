"""Frozen dataclasses to and from plain JSON values, by their type hints alone.

Supported: str, int, float, bool, None, StrEnum, NewType, datetime (ISO 8601, aware), tuple[T, ...], Mapping[str, T], X | None
and nested
dataclasses. Non-finite floats travel as the strings "inf", "-inf" and "nan", because JSON has none.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

T = TypeVar("T")
Json = Any


class WireError(ValueError):
    """A value does not have the shape that the type asks for. ``str`` names the path."""


def encode(value: object) -> Json:
    """A value as plain JSON. Raises TypeError for a type that the wire does not know."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    raise TypeError(f"cannot put {type(value).__name__} on the wire")


def decode(cls: type[T], data: Json, path: str = "") -> T:
    """Plain JSON as ``cls``. Unknown keys are ignored, missing ones take the default. Raises WireError naming the path."""
    return typing.cast("T", _decode(cls, data, path or cls.__name__))


def dumps(value: object) -> str:
    """Canonical JSON text: sorted keys, no spaces. Equal values give equal bytes."""
    return json.dumps(encode(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def loads(cls: type[T], text: str | bytes) -> T:
    """Inverse of ``dumps``."""
    return decode(cls, json.loads(text))


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode(hint: Any, data: Json, path: str) -> Any:
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _decode_optional(hint, data, path)
    if origin is tuple:
        return _decode_tuple(hint, data, path)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, Mapping):
            raise WireError(f"{path}: expected an object, found {type(data).__name__}")
        item = typing.get_args(hint)[1]
        return {str(key): _decode(item, value, f"{path}.{key}") for key, value in data.items()}
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(typing.cast("type", hint), data, path)
    return _decode_scalar(hint, data, path)


def _decode_optional(hint: Any, data: Json, path: str) -> Any:
    inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
    if data is None:
        return None
    if len(inner) != 1:
        raise TypeError(f"{path}: unions other than X | None cannot travel")
    return _decode(inner[0], data, path)


def _decode_tuple(hint: Any, data: Json, path: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise WireError(f"{path}: expected a list, found {type(data).__name__}")
    item = typing.get_args(hint)[0]
    return tuple(_decode(item, value, f"{path}[{index}]") for index, value in enumerate(data))


def _decode_dataclass(cls: type, data: Json, path: str) -> Any:
    if not isinstance(data, Mapping):
        raise WireError(f"{path}: expected an object, found {type(data).__name__}")
    hints = _hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.name in data:
            values[field.name] = _decode(hints[field.name], data[field.name], f"{path}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise WireError(f"{path}.{field.name}: missing")
    try:
        return cls(**values)
    except ValueError as error:
        raise WireError(f"{path}: {error}") from error


def _decode_scalar(hint: Any, data: Json, path: str) -> Any:
    if hint is Any or hint is object:
        return data
    if not isinstance(hint, type):
        raise TypeError(f"{path}: {hint!r} cannot travel")
    if issubclass(hint, StrEnum):
        try:
            return hint(data)
        except ValueError:
            raise WireError(f"{path}: {data!r} is not one of {[m.value for m in hint]}") from None
    if hint is float and isinstance(data, str) and data in ("inf", "-inf", "nan"):
        return float(data)
    if hint is datetime and isinstance(data, str):
        return _datetime(data, path)
    allowed: Any = {float: (int, float), int: int, str: str, bool: bool}.get(hint, ())
    if not isinstance(data, allowed) or (isinstance(data, bool) and hint is not bool):
        raise WireError(f"{path}: expected {hint.__name__}, found {type(data).__name__}")
    return float(data) if hint is float else data


def _datetime(text: str, path: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise WireError(f"{path}: {text!r} is no ISO 8601 time") from None
    if value.tzinfo is None:
        raise WireError(f"{path}: {text!r} has no time zone")
    return value
