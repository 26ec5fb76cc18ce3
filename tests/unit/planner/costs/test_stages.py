from __future__ import annotations

import pytest

from planner.costs.stages import build_stages
from planner.models.counts import model_parameters
from tests.unit.planner.costs.models import DECODER, TRANSLATOR, workload
from trimtab.inventory import DeviceKind
from trimtab.model import ModelSpec
from trimtab.strategy import Strategy


@pytest.mark.parametrize("model", [DECODER, TRANSLATOR], ids=lambda model: model.name)
@pytest.mark.parametrize("pp", [1, 2, 4])
def test_stages_hold_the_model_once_and_copies_of_the_tied_embedding(model: ModelSpec, pp: int) -> None:
    stages = build_stages(model, workload(model), Strategy(pp=pp, num_micro_batches=pp), kind=DeviceKind.CPU)
    copies = sum(stage.embedding_weights for stage in stages) // (model.vocab_size * model.hidden_size) - 1
    extra = copies * model.vocab_size * model.hidden_size
    assert sum(stage.parameters for stage in stages) == model_parameters(model).total + extra
    assert sum(stage.num_layers for stage in stages) == model.num_layers


@pytest.mark.parametrize("model", [DECODER, TRANSLATOR], ids=lambda model: model.name)
@pytest.mark.parametrize("tp", [1, 2])
def test_the_weights_that_operations_read_are_the_parameters_of_a_layer(model: ModelSpec, tp: int) -> None:
    (stage,) = build_stages(model, workload(model), Strategy(tp=tp), kind=DeviceKind.CPU)
    for block in stage.blocks:
        if block.is_layer:
            assert sum(operation.weights for operation in block.operations) == block.parameters


def test_a_split_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match="add up to 3, the model has 4 layers"):
        build_stages(DECODER, workload(DECODER), Strategy(pp=2, stage_layers=(1, 2)), kind=DeviceKind.CPU)


def test_the_encoders_output_travels_with_the_decoders_stream() -> None:
    train = workload(TRANSLATOR)
    strategy = Strategy(pp=4, micro_batch=2, num_micro_batches=4)
    stages = build_stages(TRANSLATOR, train, strategy, kind=DeviceKind.CPU)
    row = 2 * TRANSLATOR.hidden_size * 4
    source, target = train.source_length, train.sequence_length
    assert [stage.boundary_bytes for stage in stages] == [row * source, row * source, row * (source + target), 0.0]
    assert [stage.received_bytes for stage in stages] == [0.0, row * source, row * source, row * (source + target)]
