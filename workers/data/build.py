"""The data set of a job."""

from __future__ import annotations

import os
from pathlib import Path

from trimtab.errors import Problem, SpecError
from trimtab.model import ModelFamily, ModelSpec
from trimtab.workload import DataKind, TrainWorkload
from workers.data.language import LanguageData, build_language_data
from workers.data.translation import TranslationData, build_translation_data

ENV_HOME = "TRIMTAB_HOME"


def cache_folder(checkpoint_dir: str) -> Path:
    """Where prepared data are kept: below TRIMTAB_HOME, shared by all jobs, or beside the job's checkpoints."""
    home = os.environ.get(ENV_HOME)
    return Path(home) / "cache" / "data" if home else Path(checkpoint_dir).parent / "data"


def build_data(model: ModelSpec, train: TrainWorkload, cache_dir: Path) -> LanguageData | TranslationData:
    """Raises SpecError where data, model and lengths do not go together."""
    translation = train.data.kind is DataKind.TRANSLATION
    wanted = ModelFamily.ENCODER_DECODER if translation else ModelFamily.DECODER
    if model.family is not wanted:
        raise SpecError(
            [
                Problem(
                    path="model.family",
                    message=f"data of kind {train.data.kind} cannot train a model of family {model.family}",
                    allowed=str(wanted),
                    nearest=str(wanted),
                )
            ]
        )
    if translation:
        return build_translation_data(
            train.data,
            vocab_size=model.vocab_size,
            source_length=train.source_length,
            sequence_length=train.sequence_length,
            cache_dir=cache_dir,
        )
    return build_language_data(
        train.data, vocab_size=model.vocab_size, sequence_length=train.sequence_length, cache_dir=cache_dir
    )
