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
    give_storage(built, device or torch.device("cpu"))
    fill(built, Initialiser(model, seed))
    return built


def give_storage(module: Transformer, device: torch.device) -> None:
    """Replace the plain parameters of a model on the meta device by empty ones on ``device``.

    ``nn.Module.to_empty`` does the same, but asks torch's symbolic shapes about each tensor, whose import takes seconds.
    """
    for owner in module.modules():
        for name, parameter in list(owner.named_parameters(recurse=False, remove_duplicate=False)):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
            owner.register_parameter(name, nn.Parameter(empty))
    module.tie()


def fill(module: nn.Module, initialiser: Initialiser) -> None:
    """Give every plain parameter its initial value."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(initialiser.value(name, parameter.shape))
