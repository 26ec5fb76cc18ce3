"""The reader of Hugging Face's ``config.json``: a mapping or a file in, a ``ModelSpec`` out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trimtab.errors import Problem, SpecError
from trimtab.model import ModelSpec
from trimtab.spec.fields import nearest, shown
from trimtab.spec.huggingface import convolutional, encoders, images, modern_encoders, multimodal, seq2seq, speech, swin
from trimtab.spec.huggingface.config import Config
from trimtab.spec.huggingface.document import read_document
from trimtab.spec.huggingface.heads import Rule

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **multimodal.LANGUAGE,
        **encoders.TABLE,
        **modern_encoders.TABLE,
        **seq2seq.TABLE,
        **images.TABLE,
        **swin.TABLE,
        **speech.TABLE,
        **convolutional.TABLE,
        **multimodal.TABLE,
    }
)
"""Every model type that is read."""
_OTHERWISE = "explicit fields, or a trace of your own torch module (trimtab trace)"


def model_from_config(
    values: Mapping[str, Any], *, name: str | None = None, lines: Mapping[str, int] | None = None, source: str | None = None
) -> ModelSpec:
    """The model that a ``config.json`` describes: the transformers class that its ``architectures`` name, or the usual one.

    ``name`` names the model (else the config's ``_name_or_path``, else its type), ``lines`` give the line of each key by dotted
    path, ``source`` the name of the file in messages. Keys that the config leaves out have the defaults of transformers'
    configuration classes. Raises SpecError with all problems found.
    """
    rule = _rule(values, lines or {}, source)
    config = Config(values, model_type=str(values["model_type"]), lines=lines)
    model: ModelSpec | None = None
    try:
        model = rule.read(config, rule.head(config))
    except (ValueError, OverflowError) as error:
        if not config.problems:
            config.note("", str(error))
    config.settle(source)
    if model is None:
        raise AssertionError("a reading without problems makes a model")
    said = values.get("_name_or_path")
    return replace(model, name=name or (said if isinstance(said, str) and said else model.name))


def model_from_file(path: Path, *, name: str | None = None) -> ModelSpec:
    """The model of a ``config.json``, or of the folder that it lies in. Raises SpecError, also where the file is no config."""
    document = read_document(path)
    folder = path.parent.name if path.suffix else path.name
    said = document.values.get("_name_or_path")
    own = said if isinstance(said, str) and said else folder
    return model_from_config(document.values, name=name or own or None, lines=document.lines, source=str(path))


def _rule(values: Mapping[str, Any], lines: Mapping[str, int], source: str | None) -> Rule:
    found = values.get("model_type")
    if isinstance(found, str) and found in RULES:
        return RULES[found]
    known = sorted(RULES)
    message = f"'{shown(found)[1:-1]}' is not known" if isinstance(found, str) else f"found {shown(found)}"
    if "model_type" not in values:
        message = "missing"
    problem = Problem(
        path="model_type",
        message=message,
        line=lines.get("model_type"),
        allowed=", ".join(known) + "; or " + _OTHERWISE,
        nearest=nearest(found[:100], known) if isinstance(found, str) else None,
    )
    raise SpecError([problem], source=source)
