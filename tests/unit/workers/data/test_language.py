"""Tokenised running text: tokeniser, packing, split, cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.training_runs import ROOT, write_texts
from trimtab.errors import SpecError
from trimtab.workload import DataKind, DataSpec
from workers.data.bpe import SEPARATOR, SEPARATOR_ID, encode_stream, train_bpe
from workers.data.cache import cached_folder, is_whole
from workers.data.cleaning import Document
from workers.data.dataset import IGNORED, PackedStream
from workers.data.language import LanguageData, build_language_data, split_documents


def _build(folder: Path, cache: Path, *, vocab_size: int = 300, held_out_frac: float = 0.3) -> LanguageData:
    spec = DataSpec(kind=DataKind.TEXT, paths=(str(folder),), held_out_frac=held_out_frac)
    return build_language_data(spec, vocab_size=vocab_size, sequence_length=16, cache_dir=cache)


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_bytes_come_back_whatever_the_text(texts: list[str]) -> None:
    tokenizer = train_bpe(["def f(x):\n    return x + 1\n"] * 3, 270)
    stream = encode_stream(tokenizer, texts)
    assert stream[0] == stream[-1] == SEPARATOR_ID
    assert int((stream == SEPARATOR_ID).sum()) == len(texts) + 1
    ends = np.flatnonzero(stream == SEPARATOR_ID)
    found = [tokenizer.decode(stream[a + 1 : b].tolist()) for a, b in pairwise(ends)]
    assert found == texts


def test_spelled_separator_is_ordinary_text() -> None:
    tokenizer = train_bpe(["a text of some length"] * 3, 270)
    stream = encode_stream(tokenizer, [f"before {SEPARATOR} after"])
    assert int((stream == SEPARATOR_ID).sum()) == 2


def test_too_small_vocabulary_is_refused_with_the_least() -> None:
    with pytest.raises(SpecError) as caught:
        train_bpe(["text"], 256)
    assert caught.value.problems[0].path == "model.vocab_size"
    assert caught.value.problems[0].nearest == "257"


def test_tokeniser_is_the_same_in_every_process(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts")
    program = (
        "import sys; from pathlib import Path; from workers.data.language import build_language_data\n"
        "from trimtab.workload import DataKind, DataSpec\n"
        "spec = DataSpec(kind=DataKind.TEXT, paths=(sys.argv[1],), held_out_frac=0.3)\n"
        "data = build_language_data(spec, vocab_size=400, sequence_length=16, cache_dir=Path(sys.argv[2]))\n"
        "print(data.digest)"
    )
    digests = set()
    for number in range(3):
        command = [sys.executable, "-c", program, str(tmp_path / "texts"), str(tmp_path / f"cache{number}")]
        variables = {**os.environ, "PYTHONHASHSEED": str(number), "PYTHONPATH": str(ROOT), "RAYON_NUM_THREADS": str(1 + number)}
        digests.add(subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout)
    assert len(digests) == 1


@given(st.integers(2, 60), st.integers(1, 9))
def test_each_target_is_in_exactly_one_window(size: int, length: int) -> None:
    stream = np.arange(size, dtype=np.uint16)
    windows = PackedStream(stream, length, whole=False)
    samples = windows[np.arange(windows.num_samples)]
    seen = samples.targets != IGNORED
    assert samples.targets[seen].tolist() == list(range(1, size))
    assert (samples.tokens[seen] == samples.targets[seen] - 1).all()


@given(st.integers(2, 60), st.integers(1, 9))
def test_training_windows_are_full(size: int, length: int) -> None:
    windows = PackedStream(np.arange(size, dtype=np.uint16), length, whole=True)
    assert windows.num_samples == (size - 1) // length
    assert (windows[np.arange(windows.num_samples)].targets != IGNORED).all()


def test_split_is_by_document_and_stable_when_one_is_added() -> None:
    documents = tuple(Document(name=f"d{index}", text="") for index in range(200))
    train, held_out = split_documents(documents, 0.2, seed=1)
    assert {d.name for d in train}.isdisjoint(d.name for d in held_out)
    assert 20 <= len(held_out) <= 60
    more_train, more_held_out = split_documents((*documents, Document(name="new", text="")), 0.2, seed=1)
    assert {d.name for d in train} <= {d.name for d in more_train}
    assert {d.name for d in held_out} <= {d.name for d in more_held_out}


@pytest.mark.parametrize("held_out_frac", [0.0, 1.0])
def test_neither_part_is_ever_empty(held_out_frac: float) -> None:
    documents = tuple(Document(name=f"d{index}", text="") for index in range(3))
    train, held_out = split_documents(documents, held_out_frac, seed=0)
    assert train
    assert held_out


def test_one_document_cannot_be_split() -> None:
    with pytest.raises(SpecError, match="at least 2"):
        split_documents((Document(name="only", text=""),), 0.5, seed=0)


def test_held_out_documents_are_not_in_the_training_stream(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", num_files=12)
    data = _build(folder, tmp_path / "cache")
    samples = data.held_out(np.arange(data.num_held_out))
    text = data.tokenizer.decode(samples.tokens.ravel().tolist())
    train = data.train(np.arange(data.num_train))
    train_text = data.tokenizer.decode(train.tokens.ravel().tolist())
    held_out_files = {index for index in range(12) if f"In file {index} the line 3 " in text}
    assert held_out_files
    assert not any(f"In file {index} the line 3 " in train_text for index in held_out_files)
    assert data.facts["held_out_documents"] == len(held_out_files)


def test_too_long_sequences_are_refused(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", num_files=2, num_lines=10)
    spec = DataSpec(kind=DataKind.TEXT, paths=(str(folder),), held_out_frac=0.3)
    with pytest.raises(SpecError, match=r"workload\.sequence_length"):
        build_language_data(spec, vocab_size=300, sequence_length=100_000, cache_dir=tmp_path / "cache")


def test_cache_is_used_and_a_damaged_one_is_made_again(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts")
    first = _build(folder, tmp_path / "cache")
    (cached,) = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    written = (cached / "train.npy").stat().st_mtime_ns
    assert _build(folder, tmp_path / "cache").digest == first.digest
    assert (cached / "train.npy").stat().st_mtime_ns == written
    damaged = bytearray((cached / "train.npy").read_bytes())
    damaged[-3] ^= 0x10
    (cached / "train.npy").write_bytes(damaged)
    assert not is_whole(cached)
    assert _build(folder, tmp_path / "cache").digest == first.digest
    assert is_whole(cached)


_ASK = """
import os, sys, time
from pathlib import Path
from workers.data.cache import cached_folder

def build(folder):
    (folder / "who").write_text(str(os.getpid()))
    with (folder.parent / "builders").open("a") as file:
        file.write("x")
    time.sleep(0.2)

print((cached_folder(Path(sys.argv[1]), "digest", build) / "who").read_text())
"""


def test_ranks_that_ask_at_once_build_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _ASK, str(tmp_path)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    ranks = [subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {rank.communicate(timeout=60)[0] for rank in ranks}
    assert len(answers) == 1
    assert answers.pop().strip().isdigit()
    assert (tmp_path / "builders").read_text(encoding="utf-8") == "x"


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x", encoding="utf-8")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        cached_folder(tmp_path, "digest", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["digest.lock"]


def test_facts_say_what_was_read(tmp_path: Path) -> None:
    data = _build(write_texts(tmp_path / "texts"), tmp_path / "cache")
    assert data.facts["read_files"] == 8
    assert int(data.facts["train_documents"]) + int(data.facts["held_out_documents"]) == 8
    assert json.dumps(dict(data.facts))
