"""Own device types and prices on the command line: where they are found, what they change, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scheduler.entrypoints.cli.main import run

JOB = """\
kind: train
name: tiny
model: {family: decoder, layers: 4, hidden_size: 256, heads: 4, feed_forward_size: 512, vocab_size: 1000}
data: {kind: stdlib}
workload: {steps: 100, sequence_length: 128, global_batch: 32, precision: bf16}
"""
INVENTORY = """\
pools:
  - {name: one, device_type: NPU-9, nodes: 1, devices_per_node: 1, offers: [{market: spot, provider: acme}]}
"""
DEVICES = """\
devices:
  - {name: NPU-9, kind: gpu, memory_gib: 64, memory_bandwidth_gb_per_s: 1600, peak_tflops: {bf16: 376}, source: its sheet}
  - {name: H100, memory_bandwidth_gb_per_s: 2900, source: our probe, date: 2026-01-02}
"""
PRICES = """\
prices:
  - {device: NPU-9, provider: acme, region: eu-1, market: spot, usd_per_device_hour: 0.95, source: their page, date: 2026-01-02}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own, and the files beside it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("TRIMTAB_HOME", str(folder))
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("TRIMTAB_CPU_DEVICES", "1")
    monkeypatch.chdir(tmp_path)
    for name, text in (("job", JOB), ("inventory", INVENTORY), ("npu", DEVICES), ("own-prices", PRICES)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return folder


def fastest(capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["estimate", "job.yaml", "--inventory", "inventory.yaml", "-o", "json", *more]) == 0, capsys.readouterr().err
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found[0]


def test_options_go_before_variables_and_these_before_the_state_folder(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def price(text: str) -> str:
        return PRICES.replace("0.95", text)

    (home / "devices.yaml").write_text(DEVICES)
    (home / "prices.yaml").write_text(price("3"))
    assert fastest(capsys)["price_usd_per_hour"] == 3.0
    (tmp_path / "named.yaml").write_text(price("2"))
    monkeypatch.setenv("TRIMTAB_PRICES", str(tmp_path / "named.yaml"))
    assert fastest(capsys)["price_usd_per_hour"] == 2.0
    usual = fastest(capsys, "--price-file", "own-prices.yaml")
    assert usual["price_usd_per_hour"] == 0.95
    (tmp_path / "slow.yaml").write_text(DEVICES.replace("bf16: 376", "bf16: 1").replace("s: 1600", "s: 4"))
    slow = fastest(capsys, "--device-file", "slow.yaml", "--price-file", "own-prices.yaml")
    assert slow["step_s"]["value"] > 20 * usual["step_s"]["value"]


def test_a_type_that_no_file_adds_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["estimate", "job.yaml", "--inventory", "inventory.yaml"]) != 0
    assert "inventory.yaml:2:30: pools[0].device_type: unknown device type 'NPU-9'" in capsys.readouterr().err


def test_an_offer_without_a_price_that_is_known_says_what_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["estimate", "job.yaml", "--inventory", "inventory.yaml", "--device-file", "npu.yaml"]) != 0
    assert "pools[0].offers[0].price_per_device_hour: missing, and no known price of a NPU-9 fits" in capsys.readouterr().err
    (tmp_path / "bundled.yaml").write_text(INVENTORY.replace("NPU-9", "H100").replace("acme", "nebius"))
    assert run(["estimate", "job.yaml", "--inventory", "bundled.yaml", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["price_usd_per_hour"] == 1.25


def test_a_broken_file_is_named_with_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "npu.yaml").write_text(DEVICES.replace("memory_gib", "memory_gb"))
    assert run(["estimate", "job.yaml", "--inventory", "inventory.yaml", "--device-file", "npu.yaml"]) != 0
    assert "npu.yaml:2:30: devices[0].memory_gb: unknown key" in capsys.readouterr().err
    assert run(["plan", "job.yaml", "--device-file", "absent.yaml"]) == 2
    assert "absent.yaml" in capsys.readouterr().err


def test_the_variable_must_name_a_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_DEVICES", "/nowhere/devices.yaml")
    assert run(["check"]) != 0
    assert "TRIMTAB_DEVICES: found '/nowhere/devices.yaml', which is no file" in capsys.readouterr().err


def test_check_tells_where_devices_and_prices_come_from(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    run(["check"])
    said = " ".join(capsys.readouterr().out.split())
    assert "34 bundled" in said
    assert str(home / "devices.yaml") in said
    assert "79 bundled, of 2026-04-01 to 2026-10-01" in said
    run(["check", "--device-file", "npu.yaml", "--price-file", "own-prices.yaml"])
    said = " ".join(capsys.readouterr().out.split())
    assert "35, of them 1 new one and 1 changed by npu.yaml" in said
    assert "memory_bandwidth_gb_per_s 2900 instead of 3350 (our probe, 2026-01-02)" in said
    assert "peak_bf16_tflops 376 (its sheet)" in said
    assert "0.95 per device-hour, acme eu-1 spot (own-prices.yaml: their page, 2026-01-02)" in said
    assert "days old: name a newer one" in said


def test_a_plan_warns_of_an_old_price_and_shows_origin_time_and_cost_of_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(
        ["plan", "job.yaml", "--inventory", "inventory.yaml", "--device-file", "npu.yaml", "--price-file", "own-prices.yaml"]
    ) in (0, None)
    said = " ".join(capsys.readouterr().out.split())
    assert "one/spot: its price is" in said
    assert "days old (their page (acme eu-1), 2026-01-02)" in said
    assert "last checkpoint" in said
    assert "npu.yaml: its sheet" in said


def test_an_estimate_says_how_checkpoints_are_written_and_that_a_price_is_old(capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--inventory", "inventory.yaml", "--device-file", "npu.yaml", "--price-file", "own-prices.yaml"]
    assert run(["estimate", "job.yaml", *files, "-o", "wide", "--limit", "1"]) == 0
    said = capsys.readouterr()
    assert "BESIDE STEPS" in said.out
    assert "checkpoints, written as assumed: hash, write and sync to a local disk" in said.out
    assert "offer one/spot: its price is" in said.err
    text = INVENTORY.replace("nodes: 1,", "nodes: 1, storage: {local_write: 9 GB/s, source: measured with fio},")
    Path("inventory.yaml").write_text(text)
    assert run(["estimate", "job.yaml", *files, "-o", "wide", "--limit", "1"]) == 0
    assert "checkpoints, written as measured: inventory.yaml: measured with fio" in capsys.readouterr().out
