from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from trimtab.fingerprint import NodeFacts
from trimtab.inventory import DeviceKind, ProbeKernel, ProbeReport
from trimtab.wire import dumps, loads

pytest.importorskip("torch", reason="needs the runtime extra")

from workers.probe.main import rank_places
from workers.probe.ranks import Samples, Window
from workers.probe.report import (
    OUTLIER_RATIO,
    expected_seconds,
    make_points,
    make_report,
    measured_device_type,
    measured_link,
    waiting_ratio,
)

pytestmark = pytest.mark.runtime
NOW = datetime(2026, 11, 1, tzinfo=UTC)
FACTS = NodeFacts(
    cpu_model="Some CPU @ 2 GHz",
    num_cores=4,
    memory_gib=16,
    gpus=("Card 1", "Card 1"),
    driver="1.0",
    versions={"torch": "2"},
)


def window(*seconds: float, rank: int = 0) -> Window:
    return Window(rank=rank, seconds=seconds)


SAMPLES: Samples = {
    (ProbeKernel.MATMUL, "fp32", (100, 100, 100, 0), 1): [window(2e-3, 1e-3), window(3e-3)],
    (ProbeKernel.MATMUL, "fp32", (100, 100, 100, 0), 2): [window(4e-3), window(4e-3, rank=1)],
    (ProbeKernel.MATMUL, "bf16", (100, 100, 100, 0), 1): [window(1e-3)],
    (ProbeKernel.ELEMENTWISE, "fp32", (1000, 3), 1): [window(1e-6)],
    (ProbeKernel.ELEMENTWISE, "fp32", (1000000, 3), 1): [window(3e-3)],
    (ProbeKernel.SEND_RECEIVE, "fp32", (8,), 2): [window(1e-4)],
    (ProbeKernel.SEND_RECEIVE, "fp32", (1000008,), 2): [window(1.1e-3)],
}


def test_a_point_is_the_mean_of_its_windows_with_its_spread() -> None:
    points = make_points(SAMPLES)
    first = next(p for p in points if p.shape == (100, 100, 100, 0) and p.num_ranks == 1 and p.precision == "fp32")
    assert first.seconds == pytest.approx((1.5e-3 + 3e-3) / 2)
    assert first.repeats == 3
    assert first.spread_frac == pytest.approx((2.8e-3 - 1.2e-3) / 4.5e-3, abs=1e-4)


def test_a_stall_counts_as_ten_medians() -> None:
    assert expected_seconds([window(*[1e-5] * 9, 1.0)]) == pytest.approx((9 + OUTLIER_RATIO) * 1e-5 / 10)


def test_ranks_at_once_carry_the_time_of_the_slowest() -> None:
    key = (ProbeKernel.SILU_FORWARD, "fp32", (100,), 2)
    swaying: Samples = {key: [window(1.0), window(3.0, rank=1), window(3.0), window(1.0, rank=1)]}
    assert waiting_ratio(swaying, 2) == pytest.approx(1.5)
    assert make_points(swaying)[0].seconds == pytest.approx(3.0)
    together: Samples = {(ProbeKernel.ALL_REDUCE, "fp32", (8,), 2): [window(1.0), window(3.0, rank=1)]}
    assert waiting_ratio(together, 2) == 1.0
    assert make_points(together)[0].seconds == pytest.approx(2.0)
    assert waiting_ratio(SAMPLES, 1) == 1.0


def test_the_device_type_is_what_was_measured_of_a_device_alone() -> None:
    found = measured_device_type(make_points(SAMPLES), facts=FACTS, kind=DeviceKind.CPU, memory_bytes=7, on=NOW)
    assert found.name == "cpu-some-cpu-2-ghz"
    assert found.peak_flops == pytest.approx({"fp32": 2e6 / 2.25e-3, "bf16": 2e9})
    assert found.memory_bandwidth_bytes_per_s == pytest.approx(4e9)
    assert found.source == "measured by trimtab probe"
    assert found.link is not None
    assert found.link.latency_s == 1e-4
    assert found.link.bandwidth_bytes_per_s == pytest.approx(1e9, rel=1e-3)


def test_one_device_has_no_link() -> None:
    alone = {key: value for key, value in SAMPLES.items() if key[0] is not ProbeKernel.SEND_RECEIVE}
    assert measured_link(make_points(alone)) is None


def test_a_report_survives_the_wire() -> None:
    points = make_points(SAMPLES)
    device_type = measured_device_type(points, facts=FACTS, kind=DeviceKind.CPU, memory_bytes=7, on=NOW)
    report = make_report(points, device_type=device_type, facts=FACTS, num_devices=2, span=(NOW, NOW + timedelta(seconds=3)))
    assert report.duration_s == 3.0
    assert report.fingerprint == FACTS.fingerprint()
    assert loads(ProbeReport, dumps(report)) == report


def test_gpus_are_taken_by_what_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [place.gpu for place in rank_places(FACTS, kind=DeviceKind.GPU, num_devices=None)] == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [place.gpu for place in rank_places(FACTS, kind=DeviceKind.GPU, num_devices=1)] == ["5"]
    with pytest.raises(ValueError, match="found 2 NVIDIA devices, asked for 3"):
        rank_places(FACTS, kind=DeviceKind.GPU, num_devices=3)
