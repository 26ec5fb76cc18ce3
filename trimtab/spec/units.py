"""Quantities with units as people write them: ``2h``, ``1h30m``, ``15B``, ``80GiB``, ``50 GB/s``, ``$900``, ``5%``.

Each reader takes a YAML scalar and returns the number in the base unit (seconds, bytes, units, US dollars, fraction) or raises
ValueError with what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

DURATION_UNITS: Mapping[str, float] = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
COUNT_UNITS: Mapping[str, float] = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
SIZE_UNITS: Mapping[str, float] = {
    "B": 1.0,
    "kB": 1e3,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    "TiB": 2.0**40,
}

_NUMBER = r"[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_QUANTITY = re.compile(rf"({_NUMBER})\s*([A-Za-z%]*)")
_DURATION = re.compile(rf"(?:{_NUMBER}\s*(?:ns|us|ms|min|s|m|h|d)\s*)+")
_DURATION_PART = re.compile(rf"({_NUMBER})\s*(ns|us|ms|min|s|m|h|d)")


def number(value: object) -> float:
    """A plain finite number; text such as ``1e-3`` counts, because YAML 1.1 reads it as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number")
    try:
        result = float(value)
    except (ValueError, OverflowError):
        raise ValueError("a number") from None
    if not math.isfinite(result):
        raise ValueError("a finite number")
    return result


def duration_s(value: object) -> float:
    """Seconds from ``90s``, ``1h30m``, ``2d``. A bare number is refused: its unit is not known."""
    if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        return sum(_float(amount) * DURATION_UNITS[unit] for amount, unit in _DURATION_PART.findall(value))
    raise ValueError("a duration with its unit, such as 90s, 30m, 1h30m or 2d")


def count(value: object) -> int:
    """A whole number, with k, M, B or T for thousands up to trillions: ``15B``."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str | float):
        match = _QUANTITY.fullmatch(str(value).strip())
        if match and match[2] in COUNT_UNITS:
            result = _float(match[1]) * COUNT_UNITS[match[2]]
            if result == int(result):
                return int(result)
    raise ValueError("a whole number, such as 300, 20k, 1.5M or 15B")


def size_bytes(value: object) -> int:
    """Bytes from ``80GiB`` or ``512MB``. A bare number is refused: its unit is not known."""
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value.strip())
        if match and match[2] in SIZE_UNITS:
            return round(_float(match[1]) * SIZE_UNITS[match[2]])
    raise ValueError("a size with its unit, such as 512MB or 80GiB")


def bandwidth_bytes_per_s(value: object) -> float:
    """Bytes per second from ``50 GB/s`` or ``400 Gbit/s``."""
    if isinstance(value, str):
        text = value.strip()
        if text.endswith("bit/s"):
            match = _QUANTITY.fullmatch(text.removesuffix("bit/s").strip())
            if match and match[2] in ("k", "M", "G", "T"):
                return _float(match[1]) * {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[match[2]] / 8
        elif text.endswith("/s"):
            return float(size_bytes(text.removesuffix("/s")))
    raise ValueError("a bandwidth with its unit, such as 50 GB/s or 400 Gbit/s")


def usd(value: object) -> float:
    """US dollars: a number, or text with a dollar sign."""
    if isinstance(value, str):
        value = value.strip().removeprefix("$").strip()
    try:
        return number(value)
    except ValueError:
        raise ValueError("an amount in US dollars, such as 900 or $6.88") from None


def fraction(value: object) -> float:
    """A share: ``0.05`` or ``5%``."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return number(value.strip()[:-1]) / 100
    try:
        return number(value)
    except ValueError:
        raise ValueError("a fraction, such as 0.05 or 5%") from None


def _float(text: str) -> float:
    return float(text.replace("_", ""))
