"""Which class of a model type a config means: its ``architectures`` say so, else the class that such models are trained as."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from trimtab.model import ModelSpec, PartPlace, PartSpec
from trimtab.spec.fields import nearest, shown
from trimtab.spec.huggingface.config import Config
from trimtab.spec.huggingface.defaults import defaults_of


class Head(StrEnum):
    """What stands on top of the stacks; the value is how the names of such classes end."""

    NONE = "Model"
    CAUSAL_LM = "ForCausalLM"
    MASKED_LM = "ForMaskedLM"
    PRETRAINING = "ForPreTraining"
    GENERATION = "ForConditionalGeneration"
    SEQUENCE_CLASSES = "ForSequenceClassification"
    WORD_CLASSES = "ForTokenClassification"
    QUESTIONS = "ForQuestionAnswering"
    IMAGE_CLASSES = "ForImageClassification"
    AUDIO_CLASSES = "ForAudioClassification"
    CTC = "ForCTC"
    ENCODER = "EncoderModel"


_ENDINGS: Mapping[str, Head] = MappingProxyType(
    {
        r"(LMHeadModel|ForCausalLM|CausalLM|WithLMHead)$": Head.CAUSAL_LM,
        r"DoubleHeadsModel$": Head.CAUSAL_LM,
        r"ForMaskedLM$": Head.MASKED_LM,
        r"ForPreTraining$": Head.PRETRAINING,
        r"(ForConditionalGeneration|MTModel|Seq2SeqLM)$": Head.GENERATION,
        r"ForSequenceClassification$": Head.SEQUENCE_CLASSES,
        r"ForTokenClassification$": Head.WORD_CLASSES,
        r"ForQuestionAnswering$": Head.QUESTIONS,
        r"ForImageClassification$": Head.IMAGE_CLASSES,
        r"ForAudioClassification$": Head.AUDIO_CLASSES,
        r"ForCTC$": Head.CTC,
        r"EncoderModel$": Head.ENCODER,
        r"Model$": Head.NONE,
    }
)

Reader = Callable[[Config, Head], ModelSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one model type is read. ``all_heads`` are those of its family, the first is taken where the config names no class.

    ``layout`` says in a sentence where the parameters come from; ``class_name`` is the class's name without its ending, and
    ``endings`` the endings that are not those of the heads.
    """

    read: Reader
    all_heads: tuple[Head, ...]
    class_name: str
    layout: str
    endings: Mapping[Head, str] = field(default_factory=dict)

    def class_of(self, head: Head) -> str:
        """Name of the class in transformers."""
        return self.class_name + self.endings.get(head, str(head))

    def heads(self, model_type: str) -> tuple[Head, ...]:
        """The heads of which transformers has a class of that type."""
        classes = defaults_of(model_type).classes
        return tuple(head for head in self.all_heads if self.class_of(head) in classes)

    def head(self, config: Config) -> Head:
        """The head that ``architectures`` names; a problem is noted where this model type has no such class here."""
        named = config.get("architectures")
        if not named:
            return self.all_heads[0]
        if not isinstance(named, list) or not isinstance(named[0], str):
            config.note("architectures", f"found {shown(named)}", allowed="a list of class names")
            return self.all_heads[0]
        found = next((head for ending, head in _ENDINGS.items() if re.search(ending, named[0])), None)
        heads = self.heads(config.model_type)
        if found in heads:
            return found
        known = [self.class_of(head) for head in heads]
        close = nearest(named[0][:100], known) or f"'{known[0]}'"
        config.note("architectures", f"found {shown(named[0])}", allowed=", ".join(known), nearest=close)
        return self.all_heads[0]


def num_labels(config: Config) -> int:
    """Classes of a classification head: as many as ``id2label`` names, else ``num_labels``, else 2."""
    names = config.get("id2label")
    if isinstance(names, Mapping) and names:
        return len(names)
    return config.count("num_labels") if config.get("num_labels") is not None else 2


def linear(name: str, inputs: int, outputs: int, *, bias: bool = True, per_token: bool = False) -> PartSpec:
    """A linear layer after the stacks, once per sample or once per token."""
    work, kept = 2.0 * inputs * outputs, float(inputs)
    return PartSpec(
        name=name,
        num_parameters=inputs * outputs + outputs * bias,
        place=PartPlace.AFTER,
        flops_per_token=work if per_token else 0.0,
        flops_per_sample=0.0 if per_token else work,
        activations_per_token=kept if per_token else 0.0,
        activations_per_sample=0.0 if per_token else kept,
    )


def small(name: str, num_parameters: int, *, place: PartPlace = PartPlace.BEFORE) -> tuple[PartSpec, ...]:
    """A table, norms or biases; nothing where there are none."""
    if num_parameters == 0:
        return ()
    return (PartSpec(name=name, num_parameters=num_parameters, place=place, is_matrix=False),)
