from __future__ import annotations

import itertools
import math

import pytest

torch = pytest.importorskip("torch")

from trimtab.workload import OptimizerKind, OptimizerSpec, ScheduleKind  # noqa: E402
from workers.training.optimizer import LocalOptimizer, clip_factor, learning_rate  # noqa: E402

pytestmark = pytest.mark.runtime


def test_warm_up_then_cosine() -> None:
    spec = OptimizerSpec(learning_rate=2.0, warmup_steps=4, schedule=ScheduleKind.COSINE, final_learning_rate_frac=0.1)
    rates = [learning_rate(spec, step, 15) for step in range(15)]
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[9] == pytest.approx(2.0 * (1 - 0.9 * 0.5))
    assert rates[-1] == pytest.approx(0.2)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[4:]))


@pytest.mark.parametrize(
    ("kind", "expected"), [(ScheduleKind.CONSTANT, [1.0, 1.0, 1.0]), (ScheduleKind.LINEAR, [1.0, 0.75, 0.5])]
)
def test_other_schedules(kind: ScheduleKind, expected: list[float]) -> None:
    spec = OptimizerSpec(learning_rate=1.0, schedule=kind, final_learning_rate_frac=0.5)
    assert [learning_rate(spec, step, 3) for step in range(3)] == pytest.approx(expected)
    assert learning_rate(spec, 99, 3) == pytest.approx(expected[-1])


def test_clipping_is_torchs() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    parameter.grad = torch.tensor([3.0, 4.0, 0.0])
    torch.nn.utils.clip_grad_norm_([parameter], 0.5)
    assert clip_factor(5.0, 0.5) * 3.0 == pytest.approx(float(parameter.grad[0]))
    assert clip_factor(0.3, 0.5) == 1.0
    assert clip_factor(5.0, 0.0) == 1.0


@pytest.mark.parametrize(
    "spec",
    [
        OptimizerSpec(learning_rate=0.1, weight_decay=0.2),
        OptimizerSpec(kind=OptimizerKind.SGD, learning_rate=0.1, weight_decay=0.2, momentum=0.9),
        OptimizerSpec(kind=OptimizerKind.SGD, learning_rate=0.1),
    ],
    ids=["adamw", "momentum", "sgd"],
)
def test_updates_are_torchs_and_only_matrices_decay(spec: OptimizerSpec) -> None:
    generator = torch.Generator().manual_seed(0)
    start = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in (("w", (3, 2)), ("b", (3,)))}
    ours = {name: value.clone() for name, value in start.items()}
    theirs = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
    groups = [
        {"params": [theirs["w"]], "weight_decay": spec.weight_decay},
        {"params": [theirs["b"]], "weight_decay": 0.0},
    ]
    reference: torch.optim.Optimizer
    if spec.kind is OptimizerKind.ADAMW:
        reference = torch.optim.AdamW(groups, lr=0.1, betas=(spec.beta1, spec.beta2), eps=spec.epsilon)
    else:
        reference = torch.optim.SGD(groups, lr=0.1, momentum=spec.momentum)
    optimizer = LocalOptimizer(spec, list(ours.items()))
    for _ in range(5):
        gradients = {name: torch.randn(value.shape, generator=generator, dtype=torch.float64) for name, value in start.items()}
        for name, parameter in theirs.items():
            parameter.grad = gradients[name].clone()
        reference.step()
        optimizer.update(list(gradients.values()), rate=0.1)
    for name, parameter in theirs.items():
        torch.testing.assert_close(ours[name], parameter.detach(), rtol=1e-12, atol=1e-12)


def test_state_goes_on_where_it_was() -> None:
    spec = OptimizerSpec()
    value = torch.ones(2, 2)
    first = LocalOptimizer(spec, [("w", value)])
    gradient = torch.full((2, 2), 0.5)
    first.update([gradient], rate=0.1)
    copy = value.clone()
    second = LocalOptimizer(spec, [("w", copy)])
    for key, tensor in second.state()["w"].items():
        tensor.copy_(first.state()["w"][key])
    second.set_num_updates(1)
    for optimizer in (first, second):
        optimizer.update([gradient * 3], rate=0.1)
    assert torch.equal(value, copy)
    assert math.isfinite(float(copy[0, 0]))
    assert {tuple(tensor.shape) for tensor in first.tensors()} == {(2, 2)}
