"""Which layers, embeddings and head each pipeline stage holds.

The layers of all stacks stand in one list, the encoder's first; ``Strategy.stage_layers`` cuts it. The embedding is held by the
stage where the encoder begins, by the one where the decoder begins, and by the last where the head is tied to it; a stack's
final norm goes with its last layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.model import ModelSpec, StackRole
from trimtab.strategy import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePart:
    """One stage: the encoder and decoder layers that it runs, of ``num_encoder`` and ``num_decoder`` in all."""

    index: int
    num_stages: int
    encoder: range
    decoder: range
    num_encoder: int
    num_decoder: int
    tied: bool

    @property
    def begins_encoder(self) -> bool:
        """Whether the source is embedded here."""
        return 0 in self.encoder

    @property
    def ends_encoder(self) -> bool:
        """Whether the encoder's output is made here."""
        return self.num_encoder - 1 in self.encoder

    @property
    def begins_decoder(self) -> bool:
        """Whether the target is embedded here."""
        return 0 in self.decoder

    @property
    def is_first(self) -> bool:
        """Whether this stage has no stage before it."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """Whether the logits and the loss are made here."""
        return self.index == self.num_stages - 1

    @property
    def runs_decoder(self) -> bool:
        """Whether any decoder layer runs here."""
        return len(self.decoder) > 0

    def holds(self, name: str) -> bool:
        """Whether this stage has the parameter, or the module, of that name."""
        stack, _, rest = name.partition(".")
        if stack == "embedding":
            return self.begins_encoder or self.begins_decoder or (self.is_last and self.tied)
        if stack == "head":
            return self.is_last
        begins, layers, ends = (
            (self.begins_encoder, self.encoder, self.ends_encoder)
            if stack == str(StackRole.ENCODER)
            else (self.begins_decoder, self.decoder, self.is_last)
        )
        if rest.startswith("positions"):
            return begins
        if rest.startswith("norm"):
            return ends
        return int(rest.split(".")[1]) in layers


def stage_layers(model: ModelSpec, strategy: Strategy) -> tuple[int, ...]:
    """Layers of each stage: as the strategy says, else near-even with the rest on the first stages."""
    if strategy.stage_layers:
        return strategy.stage_layers
    whole, rest = divmod(model.num_layers, strategy.pp)
    return tuple(whole + (index < rest) for index in range(strategy.pp))


def stage_parts(model: ModelSpec, strategy: Strategy) -> tuple[StagePart, ...]:
    """The stages, first to last."""
    layers = {stack.role: stack.num_layers for stack in model.stacks}
    num_encoder, num_decoder = layers.get(StackRole.ENCODER, 0), layers[StackRole.DECODER]
    parts, start = [], 0
    for index, count in enumerate(stage_layers(model, strategy)):
        stop = start + count
        parts.append(
            StagePart(
                index=index,
                num_stages=strategy.pp,
                encoder=range(min(start, num_encoder), min(stop, num_encoder)),
                decoder=range(max(start - num_encoder, 0), max(stop - num_encoder, 0)),
                num_encoder=num_encoder,
                num_decoder=num_decoder,
                tied=model.tied_embeddings,
            )
        )
        start = stop
    return tuple(parts)
