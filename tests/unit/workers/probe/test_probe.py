"""The probe as a program: real ranks, real collectives, and what happens when a rank dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trimtab.inventory import DeviceKind, ProbeKernel, ProbeReport
from trimtab.wire import loads

pytest.importorskip("torch", reason="needs the runtime extra")

from workers.probe.ranks import ProbeError, RankPlace, run_ranks

pytestmark = pytest.mark.runtime
ROOT = Path(__file__).resolve().parents[4]


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workers.probe", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_two_ranks_report_on_stdout_and_progress_on_stderr() -> None:
    done = probe("--kind", "cpu", "--devices", "2", "--quick")
    assert done.returncode == 0, done.stderr
    report = loads(ProbeReport, done.stdout)
    assert report.num_devices == 2
    assert report.device_type.peak_flops["fp32"] > 1e8
    assert report.device_type.link is not None
    measured = {(point.kernel, point.num_ranks) for point in report.points}
    for kernel in (
        ProbeKernel.ALL_REDUCE,
        ProbeKernel.ALL_GATHER,
        ProbeKernel.REDUCE_SCATTER,
        ProbeKernel.SEND_RECEIVE,
        ProbeKernel.UNIT_LAUNCH,
        ProbeKernel.RANK_START,
        ProbeKernel.MATMUL,
    ):
        assert (kernel, 2) in measured
    assert (ProbeKernel.MATMUL, 1) in measured
    assert all(point.seconds >= 0.0 and point.repeats >= 1 for point in report.points)
    assert "device(s): 100 %" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--devices", "0"), "at least 1 device is needed"), (("--kind", "tpu"), "invalid choice")],
)
def test_bad_use_ends_with_code_2_and_says_why(arguments: tuple[str, ...], said: str) -> None:
    done = probe("--kind", "cpu", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not done.stdout


def test_a_rank_that_cannot_start_fails_the_probe_with_its_last_words() -> None:
    gpu = [RankPlace(kind=DeviceKind.GPU, gpu="99")]
    with pytest.raises(ProbeError, match="rank 0 of the probe ended with code 1"):
        run_ranks(gpu, quick=True, on_progress=lambda share: None)
