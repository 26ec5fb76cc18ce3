"""Predicted peak tensor bytes against the real trainer's, by torch's own tracker: the memory model mirrors the trainer's code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.costs import predict
from tests.unit.planner.costs.models import DECODER, TRANSLATOR, context, workload
from trimtab.model import ActivationKind, FeedForwardSpec, ModelFamily, ModelSpec, NormKind, PositionKind
from trimtab.strategy import Recompute, Strategy

torch = pytest.importorskip("torch", reason="needs the runtime extra")

from workers.training.batch import Batch  # noqa: E402
from workers.training.engine import Engine  # noqa: E402

pytestmark = pytest.mark.runtime


def classic(model: ModelSpec) -> ModelSpec:
    """GPT-2's parts: layer norm, learned positions, two matrices with GELU."""
    feed_forward = FeedForwardSpec(hidden_size=128, gated=False, activation=ActivationKind.GELU)
    stacks = tuple(replace(stack, norm=NormKind.LAYER, feed_forward=feed_forward) for stack in model.stacks)
    return replace(model, stacks=stacks, position=PositionKind.LEARNED, max_positions=64, name="classic")


@pytest.mark.parametrize("model", [DECODER, TRANSLATOR, classic(DECODER)], ids=lambda model: model.name)
@pytest.mark.parametrize(
    "strategy",
    [
        Strategy(micro_batch=8),
        Strategy(micro_batch=2, num_micro_batches=4),
        Strategy(micro_batch=8, recompute=Recompute.FULL),
        Strategy(micro_batch=8, recompute=Recompute.SELECTIVE),
    ],
    ids=lambda strategy: strategy.label(),
)
def test_peak_tensor_bytes(model: ModelSpec, strategy: Strategy) -> None:
    train = workload(model)
    engine = Engine.build(model=model, train=train, strategy=strategy, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)

    def tokens(length: int) -> torch.Tensor:
        return torch.randint(0, model.vocab_size, (train.global_batch, length), generator=generator)

    source = tokens(train.source_length) if model.family is ModelFamily.ENCODER_DECODER else None
    batch = Batch(tokens=tokens(train.sequence_length), targets=tokens(train.sequence_length), source=source)
    engine.step(batch)
    engine.measured_step(batch)
    found = predict(model=model, train=train, strategy=strategy, context=context(strategy)).memory[0]
    assert found.total_bytes.value == pytest.approx(engine.peak_tensor_bytes(), rel=0.03)
