"""Faults that are put into a live engine, to show that the comparison with one process catches them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from workers.training.batch import Batch
from workers.training.engine import Engine


def mean_of_means(engine: Engine) -> None:
    """Divide by this rank's own number of targets instead of the global one."""
    inner = engine.parallel.forward_backward
    num_positions = engine.strategy.global_batch * engine.train.sequence_length

    def wrong(batch: Batch, *, weight: float) -> Tensor:
        own = int((batch.targets != -100).sum()) * engine.num_data_ranks
        return inner(batch, weight=weight * num_positions / own)

    engine.parallel.forward_backward = wrong  # type: ignore[method-assign]


def averaged_gradients(engine: Engine) -> None:
    """Divide gradients by the data ranks, as DistributedDataParallel does, on top of the global mean."""
    inner = engine.parallel.reduced_gradients

    def wrong() -> list[Tensor]:
        return [gradient / engine.num_data_ranks for gradient in inner()]

    engine.parallel.reduced_gradients = wrong  # type: ignore[method-assign]


def unreduced_gradients(engine: Engine) -> None:
    """Forget the sum over replicas."""
    engine.parallel.reduced_gradients = lambda: [  # type: ignore[method-assign]
        held.gradient() for held in engine.parallel.held.values()
    ]


def half_tensor_gradient(engine: Engine) -> None:
    """Scale the gradient of one cut parameter."""
    inner = engine.parallel.reduced_gradients
    index = list(engine.parallel.held).index("decoder.layers.0.feed_forward.up.weight")

    def wrong() -> list[Tensor]:
        gradients = inner()
        gradients[index] = gradients[index] / 2
        return gradients

    engine.parallel.reduced_gradients = wrong  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[Engine], None]] = {
    "mean of means": mean_of_means,
    "averaged gradients": averaged_gradients,
    "unreduced gradients": unreduced_gradients,
    "half tensor gradient": half_tensor_gradient,
}
