"""Trigram language model with interpolated modified Kneser-Ney smoothing, the baseline that a neural model has to beat.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (1999), section 3: eq. 26 (discounts), and
interpolation down to the uniform distribution over the vocabulary. Vectorised over the whole corpus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """One order, smoothed: per n-gram its discounted probability, per context the weight left for the lower order."""

    keys: Keys
    discounted: Floats
    contexts: Keys
    left_over: Floats

    def probability(self, keys: Keys, contexts: Keys, lower: Floats) -> Floats:
        """P(word | context) of each key, interpolated with ``lower``; contexts never seen take ``lower`` alone."""
        weight, seen = _look_up(self.contexts, self.left_over, contexts)
        discounted, _ = _look_up(self.keys, self.discounted, keys)
        return np.where(seen, discounted + weight * lower, lower)


class TrigramModel:
    """Counts a stream of token ids in ``[0, vocab_size)``; memory is about 60 bytes per distinct trigram."""

    def __init__(self, stream: NDArray[np.integer], vocab_size: int) -> None:
        if vocab_size < 1 or vocab_size > 1 << 21:
            raise ValueError("vocab_size must be between 1 and 2^21, so that three ids fit 64 bits")
        self._size = np.uint64(vocab_size)
        grams = self._grams(_with_context(stream))
        trigrams, counts = np.unique(grams[0], return_counts=True)
        # Lower orders count in how many different contexts a gram was seen, not how often (Kneser-Ney).
        bigrams, bigram_types = np.unique(self._tail(trigrams, 2), return_counts=True)
        unigrams, unigram_types = np.unique(self._tail(bigrams, 1), return_counts=True)
        self._trigram = self._order(trigrams, counts)
        self._bigram = self._order(bigrams, bigram_types)
        self._unigram = self._order(unigrams, unigram_types)

    def losses_nats(self, stream: NDArray[np.integer]) -> Floats:
        """-log P of every token of ``stream`` but the first, given the two before it (the first is taken twice as context)."""
        trigrams, bigrams, unigrams = self._grams(_with_context(stream))
        uniform = np.full(len(trigrams), 1.0 / float(self._size))
        one = self._unigram.probability(unigrams, unigrams // self._size, uniform)
        two = self._bigram.probability(bigrams, bigrams // self._size, one)
        three = self._trigram.probability(trigrams, trigrams // self._size, two)
        losses: Floats = -np.log(three)
        return losses

    def mean_loss_nats(self, stream: NDArray[np.integer]) -> float:
        """Mean of ``losses_nats``: the same positions as the packed windows over ``stream`` predict."""
        return float(self.losses_nats(stream).mean())

    def _grams(self, padded: Keys) -> tuple[Keys, Keys, Keys]:
        """Keys of the trigrams that end at each predicted position, and of their last two tokens and last token."""
        unigrams = padded[2:]
        bigrams = padded[1:-1] * self._size + unigrams
        trigrams = padded[:-2] * self._size * self._size + bigrams
        return trigrams, bigrams, unigrams

    def _tail(self, keys: Keys, length: int) -> Keys:
        return keys % (self._size**length)

    def _order(self, keys: Keys, counts: NDArray[np.int64]) -> _Order:
        discounts = _discounts(counts)
        amount = discounts[np.minimum(counts, 3)]
        contexts, first = np.unique(keys // self._size, return_index=True)
        totals = np.add.reduceat(counts.astype(np.float64), first)
        taken = np.add.reduceat(amount, first)
        lengths = np.diff(np.append(first, len(keys)))
        discounted: Floats = (counts - amount) / np.repeat(totals, lengths)
        return _Order(keys=keys, discounted=discounted, contexts=contexts, left_over=taken / totals)


def _with_context(stream: NDArray[np.integer]) -> Keys:
    if len(stream) < 2:
        raise ValueError("a stream needs at least two tokens")
    return np.concatenate([stream[:1], stream]).astype(np.uint64)


def _discounts(counts: NDArray[np.int64]) -> Floats:
    """Discounts for counts 0, 1, 2 and 3 or more (eq. 26); where a count of counts is missing, absolute discounting with Y."""
    n1, n2, n3, n4 = (float(np.count_nonzero(counts == value)) for value in (1, 2, 3, 4))
    if n1 == 0 or n2 == 0:
        return np.array([0.0, 0.5, 0.5, 0.5])
    y = n1 / (n1 + 2 * n2)
    d1 = 1 - 2 * y * n2 / n1
    d2 = 2 - 3 * y * n3 / n2
    d3 = 3 - 4 * y * n4 / n3 if n3 else y
    limits = np.array([0.0, 1.0, 2.0, 3.0])  # a discount never exceeds the count that it is taken from
    discounts: Floats = np.clip(np.array([0.0, d1, d2, d3]), 0.0, limits)
    return discounts


def _look_up(keys: Keys, values: Floats, wanted: Keys) -> tuple[Floats, NDArray[np.bool_]]:
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = keys[places] == wanted
    return np.where(found, values[places], 0.0), found
