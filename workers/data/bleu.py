"""Corpus BLEU-4 with the brevity penalty (Papineni et al. 2002, section 2.3), one reference per sentence, no smoothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

MAX_ORDER = 4


def corpus_bleu(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    """BLEU between 0 and 100 of tokenised sentences. Raises ValueError for unequal numbers or an empty corpus."""
    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    matches = [0] * MAX_ORDER
    totals = [0] * MAX_ORDER
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        for order in range(1, MAX_ORDER + 1):
            proposed = _grams(hypothesis, order)
            matches[order - 1] += (proposed & _grams(reference, order)).total()
            totals[order - 1] += proposed.total()
    if min(matches) == 0:
        return 0.0
    precision = sum(math.log(match / total) for match, total in zip(matches, totals, strict=True)) / MAX_ORDER
    length = sum(len(hypothesis) for hypothesis in hypotheses)
    wanted = sum(len(reference) for reference in references)
    return 100.0 * math.exp(precision + min(0.0, 1.0 - wanted / length))


def _grams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))
