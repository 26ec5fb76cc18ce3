"""The translation grammar and its data set."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from trimtab.errors import SpecError
from trimtab.workload import DataKind, DataSpec
from workers.data.dataset import IGNORED
from workers.data.grammar import ClauseTemplate, SentencePair, Template, Writer
from workers.data.grammar_words import NOUNS
from workers.data.translation import TranslationData, build_translation_data
from workers.data.words import BEGIN_ID, END_ID, PAD_ID, UNKNOWN_ID, WordTokeniser

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 3000


@pytest.fixture(scope="module")
def pairs() -> list[SentencePair]:
    return [Writer(0, index).pair() for index in range(SIZE)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TranslationData:
    return _build(tmp_path_factory.mktemp("cache"))


def _build(cache: Path, *, size: int = SIZE, vocab_size: int = 1536, length: int = 24) -> TranslationData:
    spec = DataSpec(kind=DataKind.TRANSLATION, size=size, held_out_frac=0.1)
    return build_translation_data(spec, vocab_size=vocab_size, source_length=length, sequence_length=length, cache_dir=cache)


def test_sentences_are_a_function_of_seed_and_index(pairs: list[SentencePair]) -> None:
    assert Writer(0, 17).pair() == pairs[17]
    assert Writer(1, 17).pair() != pairs[17]


def test_known_sentences() -> None:
    # Pinned: the grammar is part of the data's identity, in every version of Python.
    found = [" | ".join((" ".join(pair.source), " ".join(pair.target))) for pair in (Writer(0, index).pair() for index in (2, 5))]
    assert found == [
        "she sings from a tower . | la turokev eks kantaris .",
        "the strange women drew a cat recently . | nuperas pikteloni feraler mirovye miselam .",
    ]


def test_each_source_has_one_translation(pairs: list[SentencePair]) -> None:
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for pair in pairs:
        assert known.setdefault(pair.source, pair.target) == pair.target


def test_both_senses_of_ambiguous_words_occur(pairs: list[SentencePair]) -> None:
    for word in ("bat", "crane", "mouse", "seal", "kid", "date"):
        stems = [noun.stem for noun in NOUNS if noun.singular == word]
        assert len(stems) == 2
        with_word = [pair for pair in pairs if word in pair.source]
        used = {stem for pair in with_word for stem in stems if any(form.startswith(stem) for form in pair.target)}
        assert used == set(stems), word


@pytest.mark.parametrize("index", range(20))
def test_word_order_differs(index: int) -> None:
    statement = ClauseTemplate(verb="transitive", subject="plain", object="plain")
    present_endings = ("is", "onti")

    def target(template: Template) -> tuple[str, ...]:
        return Writer(0, index).sentence(template)[1]

    assert target(Template(main=statement))[-2].endswith(present_endings)
    question = target(Template(main=replace(statement, question=True)))
    assert question[0].endswith(present_endings)
    assert question[1] == "chi"
    timed = target(Template(main=replace(statement, adverbial="time")))
    assert timed[1].endswith(present_endings)
    reason = target(Template(main=statement, join="because", second=statement))
    assert reason[reason.index("dar") - 1].endswith(present_endings)
    assert reason[reason.index("dar") + 1] == ","


def test_held_out_templates_are_never_trained_on(pairs: list[SentencePair], data: TranslationData) -> None:
    template_of = {pair.source: pair.template for pair in pairs}
    trained = {template_of[source] for source in data.train_pairs.sources}
    held_out = {template_of[source] for source in data.held_out_pairs.sources}
    assert len(held_out) > 100
    assert trained.isdisjoint(held_out)


def test_arrays_hold_the_sentences(data: TranslationData) -> None:
    samples = data.train(np.arange(50))
    assert samples.source is not None
    for row in range(50):
        source, target = data.train_pairs.sources[row], data.train_pairs.targets[row]
        assert data.tokeniser.decode(samples.source[row].tolist()) == list(source)
        assert data.tokeniser.decode(samples.targets[row].tolist()) == list(target)
        assert samples.source[row, len(source)] == END_ID
        assert (samples.source[row, len(source) + 1 :] == PAD_ID).all()
        assert samples.tokens[row, 0] == BEGIN_ID
        assert (samples.tokens[row, 1 : len(target) + 1] == samples.targets[row, : len(target)]).all()
        assert (samples.targets[row, len(target) + 1 :] == IGNORED).all()


def test_second_build_reads_the_cache(tmp_path: Path) -> None:
    first = _build(tmp_path, size=300)
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    written = (folder / "pairs.json").stat().st_mtime_ns
    assert _build(tmp_path, size=300).digest == first.digest
    assert (folder / "pairs.json").stat().st_mtime_ns == written


def test_perfect_output_has_full_bleu_and_the_lexicon_little(data: TranslationData) -> None:
    targets = data.held_out(np.arange(data.num_held_out)).targets
    assert 99.0 < data.bleu(targets.tolist()) <= 100.0  # a few held-out words do not occur in so few training pairs
    assert 0.0 <= data.lexicon_bleu() < 20.0


def test_small_vocabulary_is_refused_with_the_size_needed(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        _build(tmp_path, size=300, vocab_size=100)
    problem = caught.value.problems[0]
    assert problem.path == "model.vocab_size"
    assert problem.nearest is not None
    assert _build(tmp_path, size=300, vocab_size=int(problem.nearest)).num_train > 0


def test_short_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"workload\.source_length"):
        _build(tmp_path, size=300, length=8)
    with pytest.raises(SpecError, match=r"workload\.source_length"):
        _build(tmp_path, size=300, length=0)


def test_one_sentence_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"data\.size"):
        _build(tmp_path, size=1)


def test_unknown_words_and_specials() -> None:
    words = WordTokeniser.train([["b", "a", "b"]], 6)
    assert words.encode(["b", "a", "c"]) == [4, 5, UNKNOWN_ID]
    assert words.decode([BEGIN_ID, 4, UNKNOWN_ID, END_ID, 5]) == ["b", "<unknown>"]
