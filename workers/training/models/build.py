"""Builds the plain model of one process."""

from __future__ import annotations

import torch
from torch import nn

from trimtab.model import ModelSpec
from workers.training.models.initial import Initialiser
from workers.training.models.transformer import Transformer, build_on_meta


def build_model(model: ModelSpec, dtype: torch.dtype, *, device: torch.device | None = None, seed: int = 0) -> Transformer:
    """The whole model on one device, filled with the initial values of ``seed``."""
    built = build_on_meta(model, dtype)
    built.to_empty(device=device or torch.device("cpu"))
    built.tie()
    fill(built, Initialiser(model, seed))
    return built


def fill(module: nn.Module, initialiser: Initialiser) -> None:
    """Give every plain parameter its initial value."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(initialiser.value(name, parameter.shape))
