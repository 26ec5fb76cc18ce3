"""Word-by-word translation with a lexicon learned from sentence pairs, the baseline that a translation model has to beat.

IBM model 1 (Brown et al. 1993, section 4.1, eq. 17: expected counts; eq. 5 and 6: the model) by expectation maximisation, with
a null word that explains target words without a source. A source word is translated by its likeliest target word, and left out
where fewer than half of its occurrences have a counterpart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NULL = ""
MIN_FERTILITY = 0.5

Sentence = Sequence[str]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Lexicon:
    """Translates each word alone, in the order of the source."""

    def __init__(self, table: dict[str, str]) -> None:
        self.table = table

    @classmethod
    def train(cls, sources: Sequence[Sentence], targets: Sequence[Sentence], *, num_rounds: int = 10) -> Lexicon:
        """Learn from aligned sentences."""
        source_words, source_ids = _number([[NULL, *sentence] for sentence in sources])
        target_words, target_ids = _number(targets)
        entries, entry_of_link, slot_of_link, num_slots = _links(source_ids, target_ids, len(target_words))
        probability: Floats = np.ones(len(entries))
        entry_source: Ints = entries // len(target_words)
        counts = probability
        for _ in range(num_rounds):
            weight = probability[entry_of_link]
            weight /= _sums(slot_of_link, weight, num_slots)[slot_of_link]
            counts = _sums(entry_of_link, weight, len(entries))
            totals = _sums(entry_source, counts, len(source_words))
            probability = counts / totals[entry_source]
        occurrences = np.bincount(np.concatenate(source_ids), minlength=len(source_words))
        return cls(_best(source_words, target_words, entries, probability, counts, occurrences))

    def translate(self, sentence: Sentence) -> list[str]:
        """The translation of each word that has one; a word never seen is copied."""
        words = (self.table.get(word, word) for word in sentence)
        return [word for word in words if word]


def _number(sentences: Sequence[Sentence]) -> tuple[list[str], list[Ints]]:
    numbers: dict[str, int] = {}
    ids = [np.array([numbers.setdefault(word, len(numbers)) for word in sentence], dtype=np.int64) for sentence in sentences]
    return list(numbers), ids


def _links(source_ids: list[Ints], target_ids: list[Ints], num_targets: int) -> tuple[Ints, Ints, Ints, int]:
    """All (source, target) word pairs that meet in a sentence: distinct pairs, pair and target position of each meeting."""
    keys, slots, num_slots = [], [], 0
    for source, target in zip(source_ids, target_ids, strict=True):
        keys.append((source[:, None] * num_targets + target[None, :]).ravel())
        slots.append(np.tile(np.arange(num_slots, num_slots + len(target)), len(source)))
        num_slots += len(target)
    entries, entry_of_link = np.unique(np.concatenate(keys), return_inverse=True)
    return entries, entry_of_link.astype(np.int64), np.concatenate(slots), num_slots


def _best(
    source_words: list[str],
    target_words: list[str],
    entries: Ints,
    probability: Floats,
    counts: Floats,
    occurrences: Ints,
) -> dict[str, str]:
    entry_source = entries // len(target_words)
    fertility = _sums(entry_source, counts, len(source_words)) / np.maximum(occurrences, 1)
    # Sorted by source, then by falling probability: the first entry of each source is its best.
    order = np.lexsort((entries, -probability, entry_source))
    sources, first = np.unique(entry_source[order], return_index=True)
    table = {}
    for source, place in zip(sources.tolist(), first.tolist(), strict=True):
        target = target_words[int(entries[order[place]]) % len(target_words)]
        table[source_words[source]] = target if fertility[source] >= MIN_FERTILITY else ""
    return table


def _sums(places: Ints, weights: Floats, size: int) -> Floats:
    return np.bincount(places, weights=weights, minlength=size).astype(np.float64)
