"""Data sets of running text: the standard library's source, or a person's files, as packed sequences of tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers

from trimtab.errors import Problem, SpecError
from trimtab.workload import DataKind, DataSpec
from workers.data.bpe import encode_stream, load_bpe, train_bpe
from workers.data.cache import cached_folder, file_sha256
from workers.data.cleaning import Cleaned, Document, clean
from workers.data.dataset import PackedStream, Samples
from workers.data.order import IntArray
from workers.data.text_files import Reading, hash_fraction, read_paths, read_stdlib
from workers.data.trigram import TrigramModel

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FORMAT = 1  # part of the cache key: raise it when reading, cleaning or encoding changes
_STDLIB_TAB_SIZE = 8  # what Python itself takes a tab for


class LanguageData:
    """Packed sequences over the training and the held-out documents of one corpus."""

    def __init__(self, folder: Path, sequence_length: int) -> None:
        self._folder = folder
        self._facts: dict[str, int | str] = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        self._train_stream = np.load(folder / "train.npy", mmap_mode="r")
        self._held_out_stream = np.load(folder / "held_out.npy", mmap_mode="r")
        self._train = PackedStream(self._train_stream, sequence_length, whole=True)
        self._held_out = PackedStream(self._held_out_stream, sequence_length, whole=False)
        self.tokenizer: Tokenizer = load_bpe(folder / "tokenizer.json")
        parts = [file_sha256(folder / name) for name in ("train.npy", "held_out.npy")]
        self._digest = hashlib.sha256(" ".join([*parts, str(sequence_length)]).encode()).hexdigest()
        if self._train.num_samples < 1 or self._held_out.num_samples < 1:
            raise SpecError(
                [
                    Problem(
                        path="workload.sequence_length",
                        message=f"{len(self._train_stream)} tokens to train on are too few for one sequence of {sequence_length}",
                        allowed=f"at most {max(1, len(self._train_stream) - 1)}",
                    )
                ]
            )

    @property
    def digest(self) -> str:
        """Fingerprint of all samples."""
        return self._digest

    @property
    def num_train(self) -> int:
        """Training sequences per epoch."""
        return self._train.num_samples

    @property
    def num_held_out(self) -> int:
        """Held-out sequences, the last one filled up with ignored targets."""
        return self._held_out.num_samples

    @property
    def facts(self) -> Mapping[str, int | str]:
        """What was read, kept and dropped."""
        return self._facts

    def train(self, ids: IntArray) -> Samples:
        """Training sequences."""
        return self._train[ids]

    def held_out(self, ids: IntArray) -> Samples:
        """Held-out sequences."""
        return self._held_out[ids]

    def trigram_loss_nats(self) -> float:
        """Held-out loss of the trigram model over the same target positions, in nats per token; computed once per corpus."""

        def build(folder: Path) -> None:
            model = TrigramModel(np.asarray(self._train_stream), int(self._facts["vocab_size"]))
            loss = model.mean_loss_nats(np.asarray(self._held_out_stream))
            (folder / "trigram.json").write_text(json.dumps({"loss_nats": loss}), encoding="utf-8")

        name = hashlib.sha256(f"trigram 1 {self._folder.name}".encode()).hexdigest()
        folder = cached_folder(self._folder.parent, name, build)
        return float(json.loads((folder / "trigram.json").read_text(encoding="utf-8"))["loss_nats"])


def build_language_data(data: DataSpec, *, vocab_size: int, sequence_length: int, cache_dir: Path) -> LanguageData:
    """Read, clean, split by document, train the tokeniser on the training part, encode; all of it cached by content."""
    if data.kind is DataKind.STDLIB:
        reading = read_stdlib(seed=data.seed, max_bytes=data.max_bytes)
    else:
        reading = read_paths(data.paths, seed=data.seed, max_bytes=data.max_bytes)
    settings = {
        "format": _FORMAT,
        "kind": str(data.kind),
        "tokenizers": tokenizers.__version__,
        "vocab_size": vocab_size,
        "held_out_frac": data.held_out_frac,
        "seed": data.seed,
        "text": reading.digest(),
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    folder = cached_folder(cache_dir, digest, lambda empty: _prepare(empty, reading, data, vocab_size))
    return LanguageData(folder, sequence_length)


def split_documents(documents: tuple[Document, ...], held_out_frac: float, seed: int) -> tuple[list[Document], list[Document]]:
    """(training, held out) by a hash of each document's name, so that a new file moves no other. Neither part is empty."""
    if len(documents) < 2:
        raise SpecError(
            [
                Problem(
                    path="data.paths",
                    message=f"{len(documents)} usable documents were found",
                    allowed="at least 2, one of them held out",
                )
            ]
        )
    fractions = [hash_fraction(seed, "held out", document.name) for document in documents]
    held_out = {index for index, fraction in enumerate(fractions) if fraction < held_out_frac}
    held_out = held_out or {int(np.argmin(fractions))}
    if len(held_out) == len(documents):
        held_out.remove(int(np.argmax(fractions)))
    train = [document for index, document in enumerate(documents) if index not in held_out]
    return train, [documents[index] for index in sorted(held_out)]


def _prepare(folder: Path, reading: Reading, data: DataSpec, vocab_size: int) -> None:
    cleaned = clean(reading.documents, tab_size=_STDLIB_TAB_SIZE if data.kind is DataKind.STDLIB else None)
    train, held_out = split_documents(cleaned.documents, data.held_out_frac, data.seed)
    tokenizer = train_bpe((document.text for document in train), vocab_size)
    train_stream = encode_stream(tokenizer, [document.text for document in train])
    held_out_stream = encode_stream(tokenizer, [document.text for document in held_out])
    tokenizer.save(str(folder / "tokenizer.json"))
    np.save(folder / "train.npy", train_stream, allow_pickle=False)
    np.save(folder / "held_out.npy", held_out_stream, allow_pickle=False)
    facts = {
        **_facts(reading, cleaned),
        "vocab_size": tokenizer.get_vocab_size(),
        "train_documents": len(train),
        "train_tokens": len(train_stream),
        "held_out_documents": len(held_out),
        "held_out_tokens": len(held_out_stream),
    }
    (folder / "facts.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _facts(reading: Reading, cleaned: Cleaned) -> dict[str, Any]:
    facts: dict[str, Any] = {"root": reading.root, "read_files": len(reading.documents), "read_bytes": reading.num_bytes}
    facts |= {f"left out, {reason}": count for reason, count in sorted(reading.left_out.items())}
    facts |= {f"dropped, {reason}": len(names) for reason, names in sorted(cleaned.dropped.items())}
    return facts
