from __future__ import annotations

import pytest

from trimtab.inventory import DeviceKind, ProbeKernel

torch = pytest.importorskip("torch", reason="needs the runtime extra")

from workers.probe.kernels import calls_autograd, prepare  # noqa: E402
from workers.probe.overheads import sample_checkpoint  # noqa: E402
from workers.probe.points import QUICK_GRID, busy_points, grid, kernel_points  # noqa: E402
from workers.probe.timing import Slot, quantile, sample  # noqa: E402

pytestmark = pytest.mark.runtime
CPU = torch.device("cpu")
ALONE = {
    ProbeKernel.ALL_REDUCE,
    ProbeKernel.ALL_GATHER,
    ProbeKernel.REDUCE_SCATTER,
    ProbeKernel.SEND_RECEIVE,
    ProbeKernel.UNIT_LAUNCH,
    ProbeKernel.CHECKPOINT_LAUNCH,
    ProbeKernel.RANK_START,
}


@pytest.mark.parametrize("point", kernel_points(QUICK_GRID), ids=lambda point: f"{point.kernel}-{point.shape}")
def test_every_kernel_runs_and_takes_time(point: object) -> None:
    run = prepare(point, CPU)
    run()
    assert min(sample(run, CPU, Slot(seconds=0.0, min_runs=3))) > 0.0


def test_every_kernel_of_a_device_alone_is_in_the_grid() -> None:
    assert {point.kernel for point in kernel_points(QUICK_GRID)} == set(ProbeKernel) - ALONE


@pytest.mark.parametrize("kind", [DeviceKind.CPU, DeviceKind.GPU])
def test_what_all_ranks_run_at_once_is_also_run_alone(kind: DeviceKind) -> None:
    sizes = grid(kind, quick=False)
    points = kernel_points(sizes)
    assert len(points) == len(set(points))
    busy = busy_points(sizes)
    assert busy <= set(points)
    assert {point.kernel for point in busy} == {point.kernel for point in points}


def test_a_tpu_cannot_be_probed() -> None:
    with pytest.raises(ValueError, match="tpu cannot be probed; allowed: cpu, gpu"):
        grid(DeviceKind.TPU, quick=False)


def test_backward_kernels_are_those_that_call_autograd() -> None:
    through = {point.kernel for point in kernel_points(QUICK_GRID) if calls_autograd(point)}
    assert ProbeKernel.ATTENTION_BACKWARD in through
    assert ProbeKernel.CROSS_ENTROPY in through
    assert ProbeKernel.MATMUL not in through
    assert ProbeKernel.ATTENTION_FORWARD not in through


def test_larger_products_take_longer() -> None:
    def median(rows: int) -> float:
        point = next(p for p in kernel_points(QUICK_GRID) if p.kernel is ProbeKernel.MATMUL)
        shape = (rows, *point.shape[1:])
        run = prepare(type(point)(kernel=point.kernel, precision=point.precision, shape=shape), CPU)
        return min(sample(run, CPU, Slot(seconds=0.02, min_runs=5)))

    assert median(2048) > 4 * median(64)


def test_checkpointing_costs_something() -> None:
    cost = sample_checkpoint(CPU)
    assert quantile(cost.sorting, 0.5) > 0.0
    assert max(cost.layer) + max(cost.operator) > 0.0


def test_quantiles_interpolate() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([1.0, 2.0], 0.75) == 1.75
    assert quantile([7.0], 0.1) == 7.0
