"""Pipeline parallelism through torch.distributed.pipelining: a stage's part of the model and its schedule.

A stage receives the residual stream of the stack that runs across the boundary and, in the decoder of an encoder-decoder, the
encoder's output beside it. The stage where the decoder begins embeds the target tokens itself: every stage of a data rank is
given the same batch. Shapes are known beforehand, so stages do not have to tell them to each other.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from trimtab.model import ModelSpec
from trimtab.strategy import PipelineSchedule, Strategy
from trimtab.workload import TrainWorkload
from workers.training.batch import Batch
from workers.training.loss import LossFunction
from workers.training.models import Stack, Transformer
from workers.training.pipeline_split import StagePart
from workers.training.precision import Formats, arithmetic

if TYPE_CHECKING:
    from torch.distributed.pipelining.schedules import PipelineScheduleSingle


def cut_to_stage(model: Transformer, part: StagePart) -> None:
    """Drop from ``model`` (on the meta device) what other stages hold."""
    if not part.holds("embedding"):
        model.embedding = None
    if not part.holds("head"):
        model.head = None
    _cut_stack(model.encoder, "encoder", part)
    _cut_stack(model.decoder, "decoder", part)
    if model.encoder is not None and not model.encoder.layers:
        model.encoder = None


def _cut_stack(stack: Stack | None, name: str, part: StagePart) -> None:
    if stack is None:
        return
    for index in [index for index in stack.layers if not part.holds(f"{name}.layers.{index}")]:
        del stack.layers[index]
    if not part.holds(f"{name}.positions"):
        stack.positions = None
    if not part.holds(f"{name}.norm"):
        stack.norm = None


def stage_forward(model: Transformer, part: StagePart, lengths: tuple[int, int], *received: Tensor, **given: Tensor) -> Any:
    """What one stage does with ``received`` of the stage before it and ``given`` (tokens, source) of this rank's micro-batch.

    ``lengths`` are the whole sequence lengths of encoder and decoder. The first stage is given its ids as ``received``.
    """
    memory = None
    stream: Tensor | None = None
    if part.begins_encoder and model.encoder is not None:
        stream = _begin(model, model.encoder, received[0])
    elif part.is_first:
        given = {"tokens": received[0]}
    elif part.runs_decoder and part.num_encoder and not part.encoder:
        memory = received[0].view_as(received[0])
        stream = None if part.begins_decoder else received[1]
    else:
        stream = received[0]
    if part.encoder and model.encoder is not None:
        assert stream is not None
        stream = model.encoder.run_layers(stream, length=lengths[0])
        if not part.ends_encoder:
            return stream
        assert model.encoder.norm is not None
        memory, stream = model.encoder.norm(stream), None
        if not part.runs_decoder:
            return memory
    if part.begins_decoder:
        stream = _begin(model, model.decoder, given["tokens"])
    assert stream is not None
    stream = model.decoder.run_layers(stream, memory, length=lengths[1])
    if part.is_last:
        assert model.decoder.norm is not None
        assert model.head is not None
        return model.head(model.decoder.norm(stream))
    return stream if memory is None else (memory, stream)


def _begin(model: Transformer, stack: Stack, ids: Tensor) -> Tensor:
    assert model.embedding is not None
    assert stack.positions is not None
    out: Tensor = stack.positions(model.embedding(ids))
    return out


class PipelineRunner:
    """One stage with its schedule."""

    def __init__(
        self,
        module: Transformer,
        *,
        part: StagePart,
        loss: LossFunction,
        edges: tuple[tuple[Tensor, ...], tuple[Tensor, ...]],
        strategy: Strategy,
        train: TrainWorkload,
        group: dist.ProcessGroup,
        device: torch.device,
    ) -> None:
        """``edges`` are examples, without storage, of what the stage receives and hands on."""
        self.part = part
        self.strategy = strategy
        self.device = device
        self.weight = 1.0
        self._loss = loss
        self._evaluating = False
        lengths = (train.source_length, train.sequence_length)
        module.forward = partial(self._forward, partial(stage_forward, module, part, lengths))  # type: ignore[method-assign]
        inputs, outputs = edges
        # Importing it brings in torch's compiler (seconds); runs without a pipeline should not wait for that.
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

        stage = PipelineStage(module, part.index, part.num_stages, device, input_args=inputs, output_args=outputs, group=group)
        one_by_one = strategy.schedule is PipelineSchedule.ONE_F_ONE_B and strategy.num_micro_batches >= strategy.pp
        kind: type[PipelineScheduleSingle] = Schedule1F1B if one_by_one else ScheduleGPipe
        self.schedule = kind(stage, strategy.num_micro_batches, loss_fn=self._weighted_loss, scale_grads=False)

    def run(self, batch: Batch, *, weight: float, backward: bool) -> Tensor:
        """The weighted summed loss, at the last stage (0 elsewhere), with gradients where ``backward``."""
        self.weight = weight
        self._evaluating = not backward
        micros = batch.split(self.strategy.micro_batch)
        losses: list[Tensor] = []
        arguments: dict[str, Any] = {
            "arg_mbs": [self._first_arguments(micro) for micro in micros],
            "kwarg_mbs": [self._own_arguments(micro) for micro in micros],
            "target_mbs": [micro.targets for micro in micros] if self.part.is_last else None,
            "losses": losses if self.part.is_last else None,
        }
        if backward:
            self.schedule.step(return_outputs=False, **arguments)
        else:
            with torch.no_grad():
                self.schedule.eval(**arguments)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for loss in losses:
            total += loss.detach()
        return total

    def _first_arguments(self, micro: Batch) -> tuple[Tensor, ...]:
        if not self.part.is_first:
            return ()
        return (micro.tokens if micro.source is None else micro.source,)

    def _own_arguments(self, micro: Batch) -> dict[str, Tensor]:
        needs_tokens = self.part.begins_decoder and (not self.part.is_first or micro.source is not None)
        own = {"tokens": micro.tokens} if needs_tokens else {}
        if self._evaluating and self.part.is_last:
            own["targets"] = micro.targets
        return own

    def _forward(self, forward: Any, *received: Tensor, targets: Tensor | None = None, **given: Tensor) -> Any:
        """The stage's output; with ``targets`` (evaluation, last stage) the loss instead, so that no logits are kept."""
        with arithmetic(self.strategy.precision, self.device):
            out = forward(*received, **given)
            return out if targets is None else self._loss(out, targets)[None]

    def _weighted_loss(self, output: Tensor, targets: Tensor) -> Tensor:
        loss = output[0] if self._evaluating else self._loss(output, targets)
        return loss * self.weight


def stage_edges(
    model: ModelSpec, train: TrainWorkload, strategy: Strategy, part: StagePart, *, formats: Formats
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Examples, without storage, of what a stage receives and hands on."""
    cut = strategy.tp if strategy.sequence_parallel else 1

    def stream(length: int) -> Tensor:
        shape = (strategy.micro_batch, length, model.hidden_size)
        return torch.empty(shape, dtype=formats.compute, device="meta", requires_grad=True)

    def ids(length: int) -> Tensor:
        return torch.empty((strategy.micro_batch, length), dtype=torch.int64, device="meta")

    def between(encoder_runs_on: bool, decoder_begun: bool) -> tuple[Tensor, ...]:
        if encoder_runs_on:
            return (stream(train.source_length // cut),)
        memory = (stream(train.source_length),) if part.num_encoder else ()
        return (*memory, stream(train.sequence_length // cut)) if decoder_begun else memory

    if part.is_first:
        received: tuple[Tensor, ...] = (ids(train.source_length if part.num_encoder else train.sequence_length),)
    else:
        received = between(len(part.encoder) > 0, part.runs_decoder and not part.begins_decoder)
    if part.is_last:
        vocabulary = -(-model.vocab_size // strategy.tp)
        shape = (strategy.micro_batch, train.sequence_length, vocabulary)
        return received, (torch.empty(shape, dtype=formats.compute, device="meta", requires_grad=True),)
    return received, between(len(part.encoder) > 0 and not part.ends_encoder, part.runs_decoder)
