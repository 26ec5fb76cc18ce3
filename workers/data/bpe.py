"""Byte-level byte-pair tokeniser trained on the job's own training text (Sennrich et al. 2016; byte alphabet of GPT-2).

The `tokenizers` package does the work. Training is deterministic: pair counts decide, ties go to the smaller pair of token ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from trimtab.errors import Problem, SpecError

SEPARATOR = "<|document|>"
SEPARATOR_ID = 0
MIN_VOCAB_SIZE = 257  # every byte and the separator
_BATCH_CHARACTERS = 1 << 20


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokeniser of at most ``vocab_size`` tokens. Raises SpecError below 257, where not every byte has a token."""
    if vocab_size < MIN_VOCAB_SIZE:
        raise SpecError(
            [
                Problem(
                    path="model.vocab_size",
                    message=f"{vocab_size} is too small for a byte-level tokeniser",
                    allowed=f"at least {MIN_VOCAB_SIZE}",
                    nearest=str(MIN_VOCAB_SIZE),
                )
            ]
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        max_token_length=32,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    tokenizer.encode_special_tokens = True  # the separator's spelling inside a document is ordinary text
    return tokenizer


def load_bpe(path: Path) -> Tokenizer:
    """A tokeniser written by ``Tokenizer.save``."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode_stream(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.unsignedinteger]:
    """All documents as one stream of token ids: separator, document, separator, document, ..., separator."""
    dtype = np.dtype(np.uint16 if tokenizer.get_vocab_size() <= 1 << 16 else np.uint32)
    parts: list[NDArray[np.unsignedinteger]] = []
    separator = np.array([SEPARATOR_ID], dtype=dtype)
    for batch in _batches(texts):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            parts.append(separator)
            parts.append(np.array(encoding.ids, dtype=dtype))
    parts.append(separator)
    return np.concatenate(parts)


def _batches(texts: Sequence[str]) -> Iterable[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
