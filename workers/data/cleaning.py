"""From bytes to clean text: decode, normalise, and drop what a language model should not learn from (denoise)."""

from __future__ import annotations

import hashlib
import io
import re
import tokenize
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from workers.data.text_files import RawDocument

MIN_CHARACTERS = 64
MIN_PRINTABLE_FRAC = 0.97
MIN_LETTER_FRAC = 0.25
MAX_MEAN_LINE_CHARACTERS = 400.0
MIN_COMPRESSED_FRAC = 0.06
NEAR_DUPLICATE_FRAC = 0.8
_MIN_LINE_CHARACTERS = 20  # shorter lines (`else:`, `return None`) are shared by files that have nothing in common
_MIN_LINES = 5

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\u2060\ufeff]")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{4,}")


class Dropped(StrEnum):
    """Why a document is not used."""

    NOT_TEXT = "not text"
    TOO_SHORT = "too short"
    DEGENERATE = "degenerate"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near duplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One clean text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """The documents kept, in the order of arrival, and what was dropped by reason."""

    documents: tuple[Document, ...]
    dropped: dict[Dropped, tuple[str, ...]]


def clean(documents: Iterable[RawDocument], *, tab_size: int | None) -> Cleaned:
    """Decode, normalise and denoise. ``tab_size`` expands tabs to that many columns; None keeps them."""
    kept: list[Document] = []
    dropped: dict[Dropped, list[str]] = {}
    exact: set[bytes] = set()
    lines_seen: set[int] = set()
    for raw in documents:
        text = decode(raw.content)
        reason = Dropped.NOT_TEXT if text is None else None
        if text is not None:
            text = normalise(text, tab_size=tab_size)
            reason = defect(text) or _duplicate(text, exact, lines_seen)
        if reason is None and text is not None:
            kept.append(Document(name=raw.name, text=text))
        elif reason is not None:
            dropped.setdefault(reason, []).append(raw.name)
    return Cleaned(documents=tuple(kept), dropped={reason: tuple(names) for reason, names in dropped.items()})


def decode(content: bytes) -> str | None:
    """Text of a file: its declared encoding (PEP 263) or UTF-8; None for anything that is not text."""
    if b"\x00" in content[:8192] and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    else:
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        except SyntaxError:  # neither UTF-8 nor a declared encoding
            return None
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def normalise(text: str, *, tab_size: int | None) -> str:
    """Unicode NFC, LF, no byte order mark, control or zero-width characters, no trailing blanks, one final newline."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = unicodedata.normalize("NFC", _CONTROL.sub("", text))
    if tab_size is not None:
        text = text.expandtabs(tab_size)
    text = _TRAILING.sub("", text)
    text = _BLANK_LINES.sub("\n\n\n", text)
    return text.strip("\n") + "\n" if text.strip() else ""


def defect(text: str) -> Dropped | None:
    """What is wrong with a normalised text: too short, or nothing that reads like text (tables, dumps, repetition)."""
    if len(text) < MIN_CHARACTERS:
        return Dropped.TOO_SHORT
    counts = Counter(text)  # the few different characters are looked at, not the many places
    printable = sum(count for character, count in counts.items() if character.isprintable() or character in "\n\t")
    letters = sum(count for character, count in counts.items() if character.isalpha())
    mean_line = len(text) / max(1, text.count("\n"))
    unreadable = printable < MIN_PRINTABLE_FRAC * len(text) or letters < MIN_LETTER_FRAC * len(text)
    if unreadable or mean_line > MAX_MEAN_LINE_CHARACTERS:
        return Dropped.DEGENERATE
    encoded = text.encode()
    if len(encoded) > 1024 and len(zlib.compress(encoded, 1)) < MIN_COMPRESSED_FRAC * len(encoded):
        return Dropped.DEGENERATE
    return None


def _duplicate(text: str, exact: set[bytes], lines_seen: set[int]) -> Dropped | None:
    digest = hashlib.blake2b(" ".join(text.split()).encode(), digest_size=16).digest()
    if digest in exact:
        return Dropped.DUPLICATE
    exact.add(digest)
    lines = {_line_hash(line) for line in text.split("\n") if len(line.strip()) >= _MIN_LINE_CHARACTERS}
    repeated = len(lines & lines_seen)
    if len(lines) >= _MIN_LINES and repeated >= NEAR_DUPLICATE_FRAC * len(lines):
        return Dropped.NEAR_DUPLICATE
    lines_seen |= lines
    return None


def _line_hash(line: str) -> int:
    return int.from_bytes(hashlib.blake2b(line.strip().encode(), digest_size=8).digest(), "big")
