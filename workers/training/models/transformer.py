"""The whole model: embedding, encoder and decoder stacks, head. Parameter names are part of the checkpoint format.

Names: ``embedding.weight`` (one table for both stacks, and for the head where embeddings are tied), ``encoder.`` and
``decoder.`` with ``positions.weight`` (learned only), ``layers.<i>.…`` and ``norm.weight``, and ``head.weight`` where embeddings
are not tied.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trimtab.builtin import beyond_builtin
from trimtab.model import ModelSpec, PositionKind, StackRole, StackSpec
from workers.training.models.blocks import Embedding, Layer, Linear, Positions, Rotary, build_norm


class Stack(nn.Module):
    """Equal layers with positions before and a norm after them. Whoever cuts a model drops parts by setting them to None."""

    def __init__(self, stack: StackSpec, model: ModelSpec) -> None:
        super().__init__()
        rotary = model.position is PositionKind.ROTARY
        self.positions: Positions | None = Positions(model)
        self.rotary = Rotary(stack.attention.head_size, model.rope_theta) if rotary else None
        self.layers = nn.ModuleDict({str(index): Layer(stack, model) for index in range(stack.num_layers)})
        self.norm: nn.Module | None = build_norm(stack, model.hidden_size, model.norm_epsilon)

    def run_layers(self, x: Tensor, memory: Tensor | None = None, *, length: int | None = None) -> Tensor:
        """The layers that are present, on ``x`` [B, S, H]. ``length`` is S where ``x`` holds only a part of the positions."""
        factors = None
        if self.rotary is not None:
            factors = self.rotary(length or x.shape[1], dtype=x.dtype, device=x.device)
        for layer in self.layers.values():
            x = layer(x, memory, factors)
        return x

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """Embeddings [B, S, H] to normed output [B, S, H]; ``memory`` [B, M, H] is the encoder's output."""
        assert self.positions is not None
        assert self.norm is not None
        length = x.shape[1]
        out: Tensor = self.norm(self.run_layers(self.positions(x), memory, length=length))
        return out


class Transformer(nn.Module):
    """A decoder language model or an encoder-decoder, as its ModelSpec says. Raises ValueError where that says more."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        beyond = beyond_builtin(spec)
        if beyond:
            raise ValueError(f"the built-in trainer does not build {', nor '.join(beyond)} (model {spec.name})")
        self.embedding: nn.Embedding | None = Embedding(spec.vocab_size, spec.hidden_size)
        roles = {stack.role: stack for stack in spec.stacks}
        encoder = roles.get(StackRole.ENCODER)
        self.encoder: Stack | None = Stack(encoder, spec) if encoder is not None else None
        self.decoder = Stack(roles[StackRole.DECODER], spec)
        self.head: nn.Linear | None = Linear(spec.hidden_size, spec.vocab_size, bias=False)
        self.tied = spec.tied_embeddings
        self.tie()

    def tie(self) -> None:
        """Make the head use the embedding's matrix again where the model is tied (after the parameters were replaced)."""
        if self.tied and self.head is not None and self.embedding is not None:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor, source: Tensor | None = None) -> Tensor:
        """``tokens`` [B, S] and, for an encoder-decoder, ``source`` [B, M], both int64, to logits [B, S, V]."""
        assert self.embedding is not None
        assert self.head is not None
        memory = None
        if self.encoder is not None:
            if source is None:
                raise ValueError("an encoder-decoder needs a source batch")
            memory = self.encoder(self.embedding(source))
        logits: Tensor = self.head(self.decoder(self.embedding(tokens), memory))
        return logits


def build_on_meta(spec: ModelSpec, dtype: torch.dtype) -> Transformer:
    """The model without storage, for whoever shards it before filling it."""
    with torch.device("meta"):
        return Transformer(spec).to(dtype)
