"""Plain models, built from a ModelSpec; they know nothing of parallelism."""

from workers.training.models.build import build_model, give_storage
from workers.training.models.initial import Initialiser
from workers.training.models.transformer import Stack, Transformer, build_on_meta

__all__ = ["Initialiser", "Stack", "Transformer", "build_model", "build_on_meta", "give_storage"]
