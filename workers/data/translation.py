"""The translation data set: sentence pairs of the grammar, split by template, as padded arrays of word ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trimtab.errors import Problem, SpecError
from trimtab.workload import DataSpec
from workers.data.bleu import corpus_bleu
from workers.data.cache import cached_folder
from workers.data.dataset import IGNORED, Samples
from workers.data.grammar import Writer
from workers.data.lexicon import Lexicon
from workers.data.order import IntArray
from workers.data.text_files import hash_fraction
from workers.data.words import BEGIN_ID, END_ID, PAD_ID, WordTokeniser

_FORMAT = 1  # part of the cache key: raise it when the grammar or the split changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Aligned sentences as words."""

    sources: tuple[tuple[str, ...], ...]
    targets: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.sources)


class TranslationData:
    """Sentence pairs: decoder tokens begin with the begin mark, targets and sources end with the end mark, all padded."""

    def __init__(self, folder: Path, *, vocab_size: int, source_length: int, sequence_length: int) -> None:
        document = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
        self.train_pairs = _pairs(document["train"])
        self.held_out_pairs = _pairs(document["held_out"])
        self._folder = folder
        self._facts: dict[str, int | str] = document["facts"]
        self.tokeniser = WordTokeniser.train((*self.train_pairs.sources, *self.train_pairs.targets), vocab_size)
        self._facts["vocab_size"] = len(self.tokeniser)
        self._train = _arrays(self.train_pairs, self.tokeniser, source_length, sequence_length)
        self._held_out = _arrays(self.held_out_pairs, self.tokeniser, source_length, sequence_length)
        sha = hashlib.sha256()
        for samples in (self._train, self._held_out):
            for array in (samples.tokens, samples.targets, samples.source):
                assert array is not None
                sha.update(f"{array.shape}".encode() + array.astype("<i8").tobytes())
        self._digest = sha.hexdigest()

    @property
    def digest(self) -> str:
        """Fingerprint of all samples."""
        return self._digest

    @property
    def num_train(self) -> int:
        """Training pairs."""
        return len(self.train_pairs)

    @property
    def num_held_out(self) -> int:
        """Pairs of held-out templates."""
        return len(self.held_out_pairs)

    @property
    def facts(self) -> Mapping[str, int | str]:
        """What was written and kept."""
        return self._facts

    def train(self, ids: IntArray) -> Samples:
        """Training pairs."""
        return self._train.rows(ids)

    def held_out(self, ids: IntArray) -> Samples:
        """Held-out pairs."""
        return self._held_out.rows(ids)

    def held_out_sources(self) -> IntArray:
        """Padded source ids of all held-out pairs [N, source_length], as a model was trained on them."""
        assert self._held_out.source is not None
        return self._held_out.source

    def bleu(self, outputs: Sequence[Sequence[int]]) -> float:
        """BLEU of decoded ids against the held-out translations, in their order."""
        return corpus_bleu([self.tokeniser.decode(ids) for ids in outputs], self.held_out_pairs.targets[: len(outputs)])

    def lexicon_bleu(self) -> float:
        """BLEU of the word-by-word lexicon on the held-out pairs; computed once per corpus."""

        def build(folder: Path) -> None:
            lexicon = Lexicon.train(self.train_pairs.sources, self.train_pairs.targets)
            outputs = [lexicon.translate(sentence) for sentence in self.held_out_pairs.sources]
            score = corpus_bleu(outputs, self.held_out_pairs.targets)
            (folder / "lexicon.json").write_text(json.dumps({"bleu": score}), encoding="utf-8")

        name = hashlib.sha256(f"lexicon 1 {self._folder.name}".encode()).hexdigest()
        folder = cached_folder(self._folder.parent, name, build)
        return float(json.loads((folder / "lexicon.json").read_text(encoding="utf-8"))["bleu"])


def build_translation_data(
    data: DataSpec, *, vocab_size: int, source_length: int, sequence_length: int, cache_dir: Path
) -> TranslationData:
    """Write the pairs (cached), number the words, pad. Raises SpecError where lengths or the vocabulary do not fit."""
    if source_length < 1:
        raise SpecError(
            [
                Problem(
                    path="workload.source_length",
                    message="translation needs the length of the source",
                    allowed="at least 1",
                    nearest="24",
                )
            ]
        )
    settings = {
        "format": _FORMAT,
        "size": data.size,
        "seed": data.seed,
        "held_out_frac": data.held_out_frac,
        "source_length": source_length,
        "sequence_length": sequence_length,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    folder = cached_folder(cache_dir, digest, lambda empty: _write(empty, data, source_length, sequence_length))
    return TranslationData(folder, vocab_size=vocab_size, source_length=source_length, sequence_length=sequence_length)


def _write(folder: Path, data: DataSpec, source_length: int, sequence_length: int) -> None:
    parts: dict[str, list[tuple[str, str]]] = {"train": [], "held_out": []}
    templates: dict[str, set[str]] = {"train": set(), "held_out": set()}
    seen: set[tuple[str, ...]] = set()
    repeated = too_long = 0
    for index in range(data.size):
        pair = Writer(data.seed, index).pair()
        if pair.source in seen:
            repeated += 1
            continue
        seen.add(pair.source)
        if len(pair.source) >= source_length or len(pair.target) >= sequence_length:
            too_long += 1
            continue
        part = "held_out" if hash_fraction(data.seed, "template", pair.template) < data.held_out_frac else "train"
        parts[part].append((" ".join(pair.source), " ".join(pair.target)))
        templates[part].add(pair.template)
    if not parts["train"] or not parts["held_out"] or too_long > 0.2 * data.size:
        raise SpecError([_cannot_split(data, parts, too_long)])
    facts = {
        "written_pairs": data.size,
        "dropped, written before": repeated,
        "dropped, too long": too_long,
        "train_templates": len(templates["train"]),
        "train_pairs": len(parts["train"]),
        "held_out_templates": len(templates["held_out"]),
        "held_out_pairs": len(parts["held_out"]),
    }
    document = json.dumps({"facts": facts, **parts}, ensure_ascii=False)
    (folder / "pairs.json").write_text(document, encoding="utf-8")


def _cannot_split(data: DataSpec, parts: Mapping[str, Sequence[object]], too_long: int) -> Problem:
    if too_long > 0.2 * data.size:
        return Problem(
            path="workload.source_length",
            message=f"{too_long} of {data.size} sentence pairs are longer than source_length or sequence_length",
            allowed="at least 22 each for every sentence of the grammar",
            nearest="24",
        )
    empty = "train" if not parts["train"] else "held_out"
    return Problem(
        path="data.size",
        message=f"{data.size} sentence pairs leave the {empty} part empty at held_out_frac {data.held_out_frac}",
        allowed="a size of 200 or more with a held_out_frac between 0.01 and 0.5",
        nearest="20000",
    )


def _pairs(rows: Iterable[Sequence[str]]) -> Pairs:
    split = [(source.split(" "), target.split(" ")) for source, target in rows]
    return Pairs(sources=tuple(tuple(source) for source, _ in split), targets=tuple(tuple(target) for _, target in split))


def _arrays(pairs: Pairs, tokeniser: WordTokeniser, source_length: int, sequence_length: int) -> Samples:
    source = np.full((len(pairs), source_length), PAD_ID, dtype=np.int64)
    tokens = np.full((len(pairs), sequence_length), PAD_ID, dtype=np.int64)
    targets = np.full((len(pairs), sequence_length), IGNORED, dtype=np.int64)
    for row, (source_words, target_words) in enumerate(zip(pairs.sources, pairs.targets, strict=True)):
        source_ids = [*tokeniser.encode(source_words), END_ID]
        target_ids = tokeniser.encode(target_words)
        source[row, : len(source_ids)] = source_ids
        tokens[row, : len(target_ids) + 1] = [BEGIN_ID, *target_ids]
        targets[row, : len(target_ids) + 1] = [*target_ids, END_ID]
    return Samples(tokens=tokens, targets=targets, source=source)
