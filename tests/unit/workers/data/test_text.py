"""Reading and cleaning text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import SpecError
from workers.data.cleaning import Dropped, clean, decode, normalise
from workers.data.text_files import RawDocument, read_paths, read_stdlib

if TYPE_CHECKING:
    from pathlib import Path

PROSE = "\n".join(f"Line {index} of a text says something of its own, number {index * 37}." for index in range(30))


def _raw(name: str, text: str) -> RawDocument:
    return RawDocument(name=name, content=text.encode())


def test_standard_library_is_source_without_tests_and_tables() -> None:
    reading = read_stdlib(max_bytes=3_000_000)
    names = [document.name for document in reading.documents]
    assert len(names) > 50
    assert all(name.endswith(".py") for name in names)
    assert not any(part in name.split("/") for name in names for part in ("test", "tests", "site-packages"))
    assert "pydoc_data/topics.py" not in names
    assert reading.num_bytes <= 3_000_000
    assert reading.left_out["past max_bytes"] > 0


def test_reading_is_the_same_each_time_and_changes_with_the_seed() -> None:
    first, again, other = (read_stdlib(seed=seed, max_bytes=500_000) for seed in (0, 0, 1))
    assert first.digest() == again.digest()
    assert first.digest() != other.digest()


def test_order_of_files_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    for folder, names in (("one", "abcdef"), ("two", "fedcba")):
        (tmp_path / folder / "texts").mkdir(parents=True)
        for name in names:
            (tmp_path / folder / "texts" / f"{name}.txt").write_text(f"{PROSE} {name}", encoding="utf-8")
    readings = [read_paths([str(tmp_path / folder / "texts")]) for folder in ("one", "two")]
    assert readings[0].documents == readings[1].documents
    assert len(readings[0].documents) == 6


def test_missing_path_is_named_with_the_nearest_folder(tmp_path: Path) -> None:
    missing = tmp_path / "corpus" / "books"
    (tmp_path / "corpus").mkdir()
    with pytest.raises(SpecError) as caught:
        read_paths([str(tmp_path), str(missing)])
    (problem,) = caught.value.problems
    assert problem.path == "data.paths[1]"
    assert problem.nearest == str(tmp_path / "corpus")


def test_no_path_at_all_is_refused() -> None:
    with pytest.raises(SpecError, match=r"data\.paths"):
        read_paths([])


def test_binary_degenerate_and_repeated_documents_are_dropped() -> None:
    table = "\n".join(f"0x{i % 256:02x}, 0x{i % 7:02x}, 0x{i % 11:02x}, 0x{i % 13:02x}" for i in range(400))
    mostly_the_same = PROSE.replace("Line 3 ", "Zeile 3 ")
    cleaned = clean(
        [
            _raw("prose", PROSE),
            RawDocument(name="binary", content=b"MZ\x00\x01" * 100),
            RawDocument(name="latin", content=("schöne Grüße " * 40).encode("latin-1")),
            _raw("short", "too little"),
            _raw("table", table),
            _raw("one line", "word " * 500),
            _raw("same words", PROSE.replace("\n", "\r\n   ")),
            _raw("nearly the same", mostly_the_same),
            _raw("other", PROSE.replace("Line", "Another line").replace("own", "kind")),
        ],
        tab_size=None,
    )
    assert [document.name for document in cleaned.documents] == ["prose", "other"]
    assert cleaned.dropped == {
        Dropped.NOT_TEXT: ("binary", "latin"),
        Dropped.TOO_SHORT: ("short",),
        Dropped.DEGENERATE: ("table", "one line"),
        Dropped.DUPLICATE: ("same words",),
        Dropped.NEAR_DUPLICATE: ("nearly the same",),
    }


def test_declared_encoding_is_honoured() -> None:
    source = "# -*- coding: latin-1 -*-\nname = 'Grüße'\n"
    assert decode(source.encode("latin-1")) == source
    assert decode("Grüße".encode("utf-16")) == "Grüße"


def test_normal_form() -> None:
    text = "\ufeffe\u0301t\u00e9  \r\n\tx\x07y\r\n\n\n\n\n\nend\t \n\n"
    assert normalise(text, tab_size=4) == "\u00e9t\u00e9\n    xy\n\n\nend\n"
    assert normalise(text, tab_size=None) == "\u00e9t\u00e9\n\txy\n\n\nend\n"
    assert normalise(" \n\t\n", tab_size=None) == ""


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text, tab_size=None)
    assert normalise(once, tab_size=None) == once
