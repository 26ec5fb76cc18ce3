"""Word tokeniser of the translation data: one id per word of either language, and the four special ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from trimtab.errors import Problem, SpecError

PAD_ID, BEGIN_ID, END_ID, UNKNOWN_ID = 0, 1, 2, 3
SPECIALS = ("<pad>", "<begin>", "<end>", "<unknown>")


class WordTokeniser:
    """Both languages share one table, because the model has one embedding."""

    def __init__(self, words: Sequence[str]) -> None:
        """``words`` in the order of their ids, the specials first."""
        self.words = tuple(words)
        self._ids = {word: index for index, word in enumerate(self.words)}

    @classmethod
    def train(cls, sentences: Iterable[Sequence[str]], vocab_size: int) -> WordTokeniser:
        """Every word of the sentences, the most frequent first. Raises SpecError where the model's table is too small."""
        counts = Counter(word for sentence in sentences for word in sentence)
        needed = len(counts) + len(SPECIALS)
        if needed > vocab_size:
            raise SpecError(
                [
                    Problem(
                        path="model.vocab_size",
                        message=f"the training pairs have {needed} different words, more than {vocab_size}",
                        allowed=f"at least {needed}",
                        nearest=str(-(-needed // 128) * 128),
                    )
                ]
            )
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls((*SPECIALS, *ordered))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentence: Sequence[str]) -> list[int]:
        """Ids of the words, without specials."""
        return [self._ids.get(word, UNKNOWN_ID) for word in sentence]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Words up to the end mark; padding and the begin mark are left out."""
        words = []
        for index in ids:
            if index == END_ID:
                break
            if index not in (PAD_ID, BEGIN_ID):
                words.append(self.words[index] if 0 <= index < len(self.words) else SPECIALS[UNKNOWN_ID])
        return words
