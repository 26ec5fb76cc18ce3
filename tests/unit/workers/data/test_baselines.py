"""Trigram model, lexicon and BLEU against independent implementations and known values."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.data.bleu import corpus_bleu
from workers.data.lexicon import Lexicon
from workers.data.trigram import TrigramModel

VOCABULARY = 7


def _stream(seed: int, size: int) -> list[int]:
    """A stream with structure: each token mostly follows from the two before it."""
    generator = random.Random(seed)
    stream = [0, 1]
    while len(stream) < size:
        likely = (2 * stream[-1] + stream[-2]) % VOCABULARY
        stream.append(likely if generator.random() < 0.6 else generator.randrange(VOCABULARY))
    return stream


def _slow_probability(train: list[int], word: int, context: tuple[int, ...]) -> float:
    """Interpolated modified Kneser-Ney by its definition, one n-gram at a time with dictionaries."""
    padded = [train[0], *train]
    tables: list[Counter[tuple[int, ...]]] = [Counter(zip(padded, padded[1:], padded[2:], strict=False))]
    for _ in range(2):
        tables.append(Counter(gram[1:] for gram in tables[-1]))
    by_length = {len(next(iter(table))): table for table in tables}

    def discounts(table: Counter[tuple[int, ...]]) -> dict[int, float]:
        n = [sum(1 for count in table.values() if count == k) for k in range(5)]
        if not n[1] or not n[2]:
            return {1: 0.5, 2: 0.5, 3: 0.5}
        y = n[1] / (n[1] + 2 * n[2])
        raw = {1: 1 - 2 * y * n[2] / n[1], 2: 2 - 3 * y * n[3] / n[2], 3: 3 - 4 * y * n[4] / n[3] if n[3] else y}
        return {k: min(max(value, 0.0), float(k)) for k, value in raw.items()}

    def probability(gram: tuple[int, ...]) -> float:
        if not gram:
            return 1 / VOCABULARY
        table = by_length[len(gram)]
        d = discounts(table)
        following = {g: c for g, c in table.items() if g[:-1] == gram[:-1]}
        lower = probability(gram[1:]) if len(gram) > 1 else 1 / VOCABULARY
        total = sum(following.values())
        if not total:
            return lower
        count = following.get(gram, 0)
        left = sum(d[min(c, 3)] for c in following.values())
        return (count - (d[min(count, 3)] if count else 0.0)) / total + left / total * lower

    return probability((*context, word))


def test_trigram_equals_the_definition() -> None:
    train, held_out = _stream(1, 160), _stream(2, 40)
    losses = TrigramModel(np.array(train), VOCABULARY).losses_nats(np.array(held_out))
    padded = [held_out[0], *held_out]
    slow = [-math.log(_slow_probability(train, padded[i + 2], (padded[i], padded[i + 1]))) for i in range(len(held_out) - 1)]
    assert losses == pytest.approx(slow, rel=1e-12)


@given(st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=60), st.integers(0, 6), st.integers(0, 6))
def test_trigram_probabilities_sum_to_one(train: list[int], first: int, second: int) -> None:
    model = TrigramModel(np.array(train), VOCABULARY)
    total = sum(math.exp(-model.losses_nats(np.array([first, second, word]))[1]) for word in range(VOCABULARY))
    assert total == pytest.approx(1.0, abs=1e-9)


def test_trigram_learns_what_is_there_to_learn() -> None:
    train, held_out = np.array(_stream(1, 20_000)), np.array(_stream(2, 4000))
    best = -(0.6 + 0.4 / 7) * math.log(0.6 + 0.4 / 7) - 6 * (0.4 / 7) * math.log(0.4 / 7)
    assert TrigramModel(train, VOCABULARY).mean_loss_nats(held_out) == pytest.approx(best, abs=0.03)


def test_trigram_counts_each_held_out_target_once() -> None:
    model = TrigramModel(np.array(_stream(1, 100)), VOCABULARY)
    assert len(model.losses_nats(np.array(_stream(2, 33)))) == 32


def test_trigram_refuses_what_it_cannot_count() -> None:
    with pytest.raises(ValueError, match="two tokens"):
        TrigramModel(np.array([1]), VOCABULARY)
    with pytest.raises(ValueError, match="vocab_size"):
        TrigramModel(np.array([1, 2]), 1 << 22)


def test_bleu_of_known_cases() -> None:
    reference = ["the", "cat", "sat", "on", "the", "mat", "today"]
    assert corpus_bleu([reference], [reference]) == pytest.approx(100.0)
    assert corpus_bleu([["other", "words"]], [reference]) == 0.0
    # 5 of 6, 3 of 5, 2 of 4, 1 of 3 n-grams are right; the output is one word short
    output = ["the", "cat", "sat", "on", "a", "mat"]
    precision = (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert corpus_bleu([output], [reference]) == pytest.approx(100 * precision * math.exp(1 - 7 / 6))


def test_bleu_clips_repeated_words() -> None:
    reference = [["a", "b", "c", "d", "a"]]
    assert corpus_bleu([["a", "a", "a", "a", "a"]], reference) == 0.0


def test_bleu_refuses_unequal_or_empty_corpora() -> None:
    with pytest.raises(ValueError, match="1 hypotheses for 2"):
        corpus_bleu([["a"]], [["a"], ["b"]])
    with pytest.raises(ValueError, match="0 hypotheses for 0"):
        corpus_bleu([], [])


_SENTENCE = st.lists(st.sampled_from("abcde"), min_size=1, max_size=12)


@settings(deadline=None)  # the first call loads the package
@given(st.lists(st.tuples(_SENTENCE, _SENTENCE), min_size=1, max_size=6))
def test_bleu_equals_sacrebleu(pairs: list[tuple[list[str], list[str]]]) -> None:
    metrics = pytest.importorskip("sacrebleu.metrics")
    hypotheses, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    metric = metrics.BLEU(tokenize="none", smooth_method="none", force=True)
    theirs = metric.corpus_score([" ".join(h) for h in hypotheses], [[" ".join(r) for r in references]]).score
    assert corpus_bleu(hypotheses, references) == pytest.approx(theirs, abs=1e-9)


def test_lexicon_finds_the_words() -> None:
    generator = random.Random(0)
    meanings = {"dog": "kan", "cat": "kat", "runs": "kur", "sleeps": "dor", "red": "rub", "old": "vet", "the": None}
    sources, targets = [], []
    for _ in range(300):
        noun, adjective, verb = (
            generator.choice(["dog", "cat"]),
            generator.choice(["red", "old"]),
            generator.choice(["runs", "sleeps"]),
        )
        sources.append(["the", adjective, noun, verb])
        targets.append([str(meanings[word]) for word in (verb, noun, adjective)])
    lexicon = Lexicon.train(sources, targets)
    assert lexicon.translate(["the", "old", "cat", "runs"]) == ["vet", "kat", "kur"]
    assert lexicon.translate(["the", "new", "dog"]) == ["new", "kan"]


def test_lexicon_equals_model_1_by_its_definition() -> None:
    sources = [["a", "b"], ["b", "c"], ["a"], ["c", "a"]]
    targets = [["x", "y"], ["y", "z"], ["x"], ["z", "x", "x"]]
    table: dict[tuple[str, str], float] = defaultdict(lambda: 1.0)
    for _ in range(10):
        counts: Counter[tuple[str, str]] = Counter()
        for source, target in zip(sources, targets, strict=True):
            for t in target:
                total = sum(table[s, t] for s in ["", *source])
                for s in ["", *source]:
                    counts[s, t] += table[s, t] / total  # type: ignore[assignment]
        totals: Counter[str] = Counter()
        for (s, _), count in counts.items():
            totals[s] += count
        table = defaultdict(float, {(s, t): count / totals[s] for (s, t), count in counts.items()})
    best = {s: max("xyz", key=lambda t, s=s: table[s, t]) for s in "abc"}  # type: ignore[misc]
    learned = Lexicon.train(sources, targets).table
    assert {s: learned[s] for s in "abc" if learned[s]} == {s: best[s] for s in "abc" if learned[s]}
    assert sum(bool(learned[s]) for s in "abc") == 3
