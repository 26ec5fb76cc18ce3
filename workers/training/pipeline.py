"""Pipeline parallelism through torch.distributed.pipelining: a stage's part of the model and its schedule.

A stage receives the residual stream of the stack that runs across the boundary and, in the decoder of an encoder-decoder, the
encoder's output beside it. The stage where the decoder begins embeds the target tokens itself: every stage of a data rank is
given the same batch. Shapes are known beforehand, so stages do not have to tell them to each other.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trimtab.strategy import PipelineSchedule
from workers.training.batch import Batch
from workers.training.loss import LossFunction
from workers.training.models import Stack, Transformer
from workers.training.parallel_plan import RankPlan
from workers.training.pipeline_split import StagePart
from workers.training.precision import arithmetic

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
    """What one stage does with ``received`` of the stage before it and ``given`` (tokens) of this rank's micro-batch.

    ``lengths`` are the whole sequence lengths of encoder and decoder. The first stage is given its ids as ``received``.
    """
    memory: Tensor | None = None
    if part.encoder:
        out = _run_encoder(model, part, lengths[0], received[0])
        if not part.runs_decoder:
            return out
        memory = out
    elif part.num_encoder:
        # A view, so that what is handed on is no leaf of autograd but has a gradient of its own.
        memory = received[0].view_as(received[0])
    if part.begins_decoder:
        stream = _begin(model, model.decoder, received[0] if part.is_first and memory is None else given["tokens"])
    else:
        stream = received[-1]
    stream = model.decoder.run_layers(stream, memory, length=lengths[1])
    if part.is_last:
        assert model.decoder.norm is not None
        assert model.head is not None
        return model.head(model.decoder.norm(stream))
    return stream if memory is None else (memory, stream)


def _run_encoder(model: Transformer, part: StagePart, length: int, received: Tensor) -> Tensor:
    """The stage's encoder layers on the source's ids or on the stream so far; normed where the encoder ends here."""
    assert model.encoder is not None
    stream = _begin(model, model.encoder, received) if part.begins_encoder else received
    stream = model.encoder.run_layers(stream, length=length)
    if not part.ends_encoder:
        return stream
    assert model.encoder.norm is not None
    out: Tensor = model.encoder.norm(stream)
    return out


def _begin(model: Transformer, stack: Stack, ids: Tensor) -> Tensor:
    assert model.embedding is not None
    assert stack.positions is not None
    out: Tensor = stack.positions(model.embedding(ids))
    return out


class PipelineRunner:
    """One stage with its schedule."""

    def __init__(self, module: Transformer, plan: RankPlan, loss: LossFunction) -> None:
        # Importing it brings in torch's compiler (seconds); runs without a pipeline should not wait for that.
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

        self.part = plan.part
        self.strategy = plan.strategy
        self.device = plan.device
        self.weight = 1.0
        self._loss = loss
        self._evaluating = False
        lengths = (plan.train.source_length, plan.train.sequence_length)
        forward = partial(stage_forward, module, plan.part, lengths)
        module.forward = partial(self._forward, forward)  # type: ignore[method-assign]
        inputs, outputs = stage_edges(plan)
        stage = PipelineStage(
            module,
            plan.part.index,
            plan.part.num_stages,
            plan.device,
            input_args=inputs,
            output_args=outputs,
            group=plan.group("pp"),
        )
        one_by_one = plan.strategy.schedule is PipelineSchedule.ONE_F_ONE_B
        enough = plan.strategy.num_micro_batches >= plan.strategy.pp  # fewer make 1F1B the same as all forward, then all backward
        kind: type[PipelineScheduleSingle] = Schedule1F1B if one_by_one and enough else ScheduleGPipe
        self.schedule = kind(stage, plan.strategy.num_micro_batches, loss_fn=self._weighted_loss, scale_grads=False)

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


def stage_edges(plan: RankPlan) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Examples, without storage, of what a stage receives and hands on."""
    model, train, strategy, part = plan.model, plan.train, plan.strategy, plan.part
    cut = strategy.tp if plan.sequence_parallel else 1

    def stream(length: int, width: int = model.hidden_size) -> Tensor:
        shape = (strategy.micro_batch, length, width)
        return torch.empty(shape, dtype=plan.formats.compute, device="meta", requires_grad=True)

    def between(encoder_runs_on: bool, decoder_begun: bool) -> tuple[Tensor, ...]:
        if encoder_runs_on:
            return (stream(train.source_length // cut),)
        memory = (stream(train.source_length),) if part.num_encoder else ()
        return (*memory, stream(train.sequence_length // cut)) if decoder_begun else memory

    if part.is_first:
        shape = (strategy.micro_batch, train.source_length if part.num_encoder else train.sequence_length)
        received: tuple[Tensor, ...] = (torch.empty(shape, dtype=torch.int64, device="meta"),)
    else:
        received = between(len(part.encoder) > 0, part.runs_decoder and not part.begins_decoder)
    if part.is_last:
        return received, (stream(train.sequence_length, -(-model.vocab_size // strategy.tp)),)
    return received, between(len(part.encoder) > 0 and not part.ends_encoder, part.runs_decoder)
