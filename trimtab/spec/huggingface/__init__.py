"""Reader of Hugging Face's ``config.json``: tables by ``model_type``, one module per family of architectures."""

from trimtab.spec.huggingface.defaults import defaults_of, release
from trimtab.spec.huggingface.document import Document, parse_document, read_document
from trimtab.spec.huggingface.heads import Head, Rule
from trimtab.spec.huggingface.reader import RULES, model_from_config, model_from_file

__all__ = [
    "RULES",
    "Document",
    "Head",
    "Rule",
    "defaults_of",
    "model_from_config",
    "model_from_file",
    "parse_document",
    "read_document",
    "release",
]
