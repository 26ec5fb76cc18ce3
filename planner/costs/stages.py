"""What each pipeline stage holds: its layers, embedding and head, their operations and their parameters on one rank."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from planner.costs.operations import (
    ELEMENT_BYTES,
    Slice,
    closing_norm,
    embedding_operations,
    head_operations,
    layer_operations,
    share,
)
from planner.models.counts import layers_in_order, model_parameters
from trimtab.inventory import DeviceKind
from trimtab.model import ModelFamily, PositionKind, StackRole

if TYPE_CHECKING:
    from planner.costs.types import Operation
    from planner.models.counts import LayerParameters
    from trimtab.model import ModelSpec, StackSpec
    from trimtab.strategy import Strategy
    from trimtab.workload import TrainWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """``count`` equal runs of operations and the parameters that each owns on one rank before sharding over data ranks.

    ``input_bytes`` is the residual stream that enters it.
    """

    name: str
    operations: tuple[Operation, ...]
    count: int
    parameters: int
    num_tensors: int
    is_layer: bool = False
    table: int = 0
    input_bytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pipeline stage.

    ``received_bytes`` and ``boundary_bytes`` are what one micro-batch gets from the stage before and sends to the next (0 at the
    ends); ``output_bytes`` is what the stage makes of it: what it sends, or the logits.
    """

    index: int
    blocks: tuple[Block, ...]
    received_bytes: float
    boundary_bytes: float
    output_bytes: float

    @property
    def parameters(self) -> int:
        """Parameters on one rank after tensor parallelism, before sharding over data ranks."""
        return sum(block.count * block.parameters for block in self.blocks)

    @property
    def embedding_weights(self) -> int:
        """Elements of the token embedding that this stage holds, 0 where it has none; the tied head counts as embedding."""
        return max((block.table for block in self.blocks), default=0)

    @property
    def num_tensors(self) -> int:
        """Parameter tensors on one rank."""
        return sum(block.count * block.num_tensors for block in self.blocks)

    @property
    def num_layers(self) -> int:
        """Layers of the stage."""
        return sum(block.count for block in self.blocks if block.is_layer)


def stage_layer_counts(model: ModelSpec, strategy: Strategy) -> tuple[int, ...]:
    """Layers of each stage: as the strategy says, else near-even with the rest on the first ones."""
    if strategy.stage_layers:
        return strategy.stage_layers
    num_stages = strategy.pp * strategy.virtual_stages
    whole, rest = divmod(model.num_layers, num_stages)
    return tuple(whole + (index < rest) for index in range(num_stages))


@lru_cache(maxsize=4096)
def build_stages(model: ModelSpec, train: TrainWorkload, strategy: Strategy, *, kind: DeviceKind) -> tuple[Stage, ...]:
    """The stages, first to last (virtual stages in model order). Raises ValueError on a split that does not add up."""
    counts = stage_layer_counts(model, strategy)
    if sum(counts) != model.num_layers:
        raise ValueError(f"stage_layers {list(counts)} add up to {sum(counts)}, the model has {model.num_layers} layers")
    layers = layers_in_order(model)
    stages: list[Stage] = []
    first = 0
    for index, count in enumerate(counts):
        last = first + count
        blocks = _stage_blocks(model, train, strategy, span=(first, last), kind=kind)
        boundary = _boundary_bytes(model, train, strategy, layers[last:]) if index + 1 < len(counts) else 0.0
        received = stages[-1].boundary_bytes if stages else 0.0
        output = boundary or _logits_bytes(model, train, strategy)
        stages.append(Stage(index=index, blocks=blocks, received_bytes=received, boundary_bytes=boundary, output_bytes=output))
        first = last
    return tuple(stages)


def stack_slice(stack: StackSpec, train: TrainWorkload, strategy: Strategy, *, kind: DeviceKind) -> Slice:
    """Tokens that a stack sees on one rank."""
    source = -(-train.source_length // strategy.cp)
    target = -(-train.sequence_length // strategy.cp)
    return Slice(
        batch=strategy.micro_batch,
        length=source if stack.role is StackRole.ENCODER else target,
        memory_length=source,
        tp=strategy.tp,
        sequence_parallel=strategy.sequence_parallel,
        precision=strategy.precision,
        fused_norm=kind is not DeviceKind.CPU,
    )


def _stage_blocks(
    model: ModelSpec, train: TrainWorkload, strategy: Strategy, *, span: tuple[int, int], kind: DeviceKind
) -> tuple[Block, ...]:
    """Blocks of the layers ``span``: the embedding stands before a stack's first layer, its norm or the head after its last."""
    first, last = span
    parameters = {entry.role: entry for entry in model_parameters(model).stacks}
    blocks: list[Block] = []
    begin = 0
    for stack in model.stacks:
        end = begin + stack.num_layers
        count = min(last, end) - max(first, begin)
        part = stack_slice(stack, train, strategy, kind=kind)
        if count > 0:
            if first <= begin:
                blocks.append(_embedding_block(model, part, shared=_holds_table(blocks)))
            blocks.append(_layer_block(model, stack, part, count=count, own=parameters[stack.role].layer))
            if last >= end and stack.role is StackRole.ENCODER:
                blocks.append(_closing_block(model, stack, part, parameters[stack.role].final_norm))
            if last >= end and stack.role is StackRole.DECODER:
                blocks.append(_head_block(model, stack, part, shared=model.tied_embeddings and _holds_table(blocks)))
        begin = end
    return tuple(blocks)


def _holds_table(blocks: list[Block]) -> bool:
    return any(block.table for block in blocks)


def _layer_block(model: ModelSpec, stack: StackSpec, part: Slice, *, count: int, own: LayerParameters) -> Block:
    return Block(
        name=f"{stack.role} layer",
        operations=layer_operations(model, stack, part),
        count=count,
        parameters=share(own.matrices, part.tp) + own.norms,
        num_tensors=_layer_tensors(stack),
        is_layer=True,
        input_bytes=_stream_bytes(model, part),
    )


def _closing_block(model: ModelSpec, stack: StackSpec, part: Slice, parameters: int) -> Block:
    return Block(
        name="encoder norm",
        operations=closing_norm(model, stack, part),
        count=1,
        parameters=parameters,
        num_tensors=1,
        input_bytes=_stream_bytes(model, part),
    )


def _embedding_block(model: ModelSpec, part: Slice, *, shared: bool) -> Block:
    table = share(model.vocab_size, part.tp) * model.hidden_size
    learned = model.position is PositionKind.LEARNED
    positions = model.max_positions * model.hidden_size if learned else 0
    return Block(
        name="embedding",
        operations=embedding_operations(model, part),
        count=1,
        parameters=positions + (0 if shared else table),
        table=table,
        num_tensors=int(not shared) + int(learned),
        input_bytes=_stream_bytes(model, part),
    )


def _head_block(model: ModelSpec, stack: StackSpec, part: Slice, *, shared: bool) -> Block:
    table = share(model.vocab_size, part.tp) * model.hidden_size
    norm = next(entry.final_norm for entry in model_parameters(model).stacks if entry.role is StackRole.DECODER)
    return Block(
        name="head",
        operations=head_operations(model, stack, part),
        count=1,
        parameters=norm + (0 if shared else table),
        table=table if model.tied_embeddings else 0,
        num_tensors=1 + int(not shared),
        input_bytes=_stream_bytes(model, part),
    )


def _stream_bytes(model: ModelSpec, part: Slice) -> float:
    return float(part.stream_tokens * model.hidden_size * part.width)


def _layer_tensors(stack: StackSpec) -> int:
    attention = 4 + 3 * stack.attention.qkv_bias + stack.attention.output_bias
    feed_forward = (3 if stack.feed_forward.gated else 2) * (2 if stack.feed_forward.bias else 1)
    blocks = 2 if stack.cross_attention else 1
    return attention * blocks + feed_forward + (1 + blocks) * (2 if stack.norm_bias else 1)


def _logits_bytes(model: ModelSpec, train: TrainWorkload, strategy: Strategy) -> float:
    tokens = strategy.micro_batch * share(train.sequence_length, strategy.cp)
    return float(tokens * share(model.vocab_size, strategy.tp) * ELEMENT_BYTES[strategy.precision])


def _boundary_bytes(model: ModelSpec, train: TrainWorkload, strategy: Strategy, rest: tuple[StackSpec, ...]) -> float:
    """Hidden states that cross a boundary; up to the last decoder layer the encoder's output travels too."""
    width = strategy.micro_batch * model.hidden_size
    encoder_left = any(layer.role is StackRole.ENCODER for layer in rest)
    source = -(-train.source_length // strategy.cp)
    target = -(-train.sequence_length // strategy.cp)
    if model.family is not ModelFamily.ENCODER_DECODER:
        tokens = target
    else:
        tokens = source if encoder_left else source + (target if len(rest) < model.stack(StackRole.DECODER).num_layers else 0)
    element = ELEMENT_BYTES[strategy.precision]
    share = strategy.tp if strategy.sequence_parallel else 1
    return float(width * tokens * element) / share
