"""``trimtab calibrate`` on files: what it keeps, prints and refuses, and that plans use it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from scheduler.adapters.measurements.file import MeasurementFile
from scheduler.adapters.simulated.world import Script
from scheduler.entrypoints.cli.common import Session
from scheduler.entrypoints.cli.main import run
from tests.support.kit import Rig, command_job, train_job
from tests.support.measurements import measured
from tests.support.rest import served
from trimtab.jobspec import JobSpec

JOB = """\
kind: train
name: small
model: {family: decoder, layers: 8, hidden_size: 1024, heads: 16, feed_forward_size: 4096, vocab_size: 32000}
data: {kind: stdlib}
workload: {steps: 100, sequence_length: 1024, global_batch: 32, precision: bf16}
"""
INVENTORY = """\
pools:
  - name: one
    device_type: H100
    nodes: 1
    devices_per_node: 1
    offers: [{market: spot, provider: test, price_per_device_hour: 2.0, source: test, date: 2026-01-05}]
"""
MEASURED = """\
measurements:
  - run: ours-1
    job: job.yaml
    device: h100 sxm
    strategy: {micro_batch: 32}
    steps_s: [9.0, 0.91, 0.9, 0.92, 0.9, 0.91]
    drop_first: 1
    date: 2026-01-05
  - job: job.yaml
    device: H100
    strategy: {micro_batch: 16, recompute: full}
    step_s: 1.1
    num_steps: 40
    date: 2026-01-06
  - model: {preset: gpt2}
    sequence_length: 1024
    device: H100
    nodes: 2
    framework: torchtitan
    strategy: {fsdp: 16, micro_batch: 4}
    step_s: 0.4
    date: 2026-01-06
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own, and the files beside it."""
    monkeypatch.setenv("TRIMTAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("TRIMTAB_CPU_DEVICES", "1")
    monkeypatch.chdir(tmp_path)
    for name, text in (("job", JOB), ("inventory", INVENTORY), ("measured", MEASURED)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path / "home"


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run([*arguments, "-o", "json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def candidate(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found = asked(capsys, "estimate", "job.yaml", "--inventory", "inventory.yaml")
    return next(c for c in found if c["strategy"]["micro_batch"] == 32 and c["strategy"]["recompute"] == "none")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(["calibrate", *arguments]) != 0
    return capsys.readouterr().err


def test_a_file_calibrates_the_next_estimate_and_forgetting_undoes_it(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    raw = candidate(capsys)
    found = asked(capsys, "calibrate", "--from", "measured.yaml")
    ours, other = sorted(found, key=lambda entry: entry["key"]["basis"] != "roofline")
    assert (ours["key"]["framework"], other["key"]["framework"]) == ("trimtab", "torchtitan")
    assert other["key"]["basis"] == "formulas"
    first, second = ours["runs"]
    assert first["measurement"]["source"] == "ours-1"
    assert second["measurement"]["source"] == "measured.yaml#2"
    assert first["measurement"]["measured_s"] == 0.91
    assert first["measurement"]["num_steps"] == 5
    assert second["measurement"]["num_steps"] == 40
    assert first["predicted_s"]["value"] == pytest.approx(raw["step_s"]["value"])
    after = candidate(capsys)
    multiplier = ours["multiplier"]["value"]
    assert multiplier == pytest.approx(7.0, rel=0.05)
    assert after["step_s"]["value"] == pytest.approx(raw["step_s"]["value"] * multiplier)
    assert after["step_s"]["value"] == pytest.approx(first["calibrated_s"]["value"])
    assert after["step_s"]["origin"] == "calibrated"
    assert "ours-1, measured.yaml#2" in after["step_s"]["source"]
    assert math.log(after["step_s"]["high"] / after["step_s"]["value"]) < math.log(raw["step_s"]["high"] / raw["step_s"]["value"])
    key = "H100-SXM5-80GB/trimtab/roofline"
    assert run(["calibrate", "--forget", key]) == 0
    assert "forgotten: measured.yaml#2, ours-1" in capsys.readouterr().err
    assert candidate(capsys)["step_s"] == raw["step_s"]
    assert f"no run, key or device type '{key}' is kept" in refused(capsys, "--forget", key)
    assert asked(capsys, "calibrate", "--from", "measured.yaml") == found


def test_the_table_shows_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calibrate", "--from", "measured.yaml"]) == 0
    said = capsys.readouterr().out
    assert "H100-SXM5-80GB/trimtab/roofline  predictions times" in said
    assert "80 % interval, by 2 runs" in said
    row = next(line for line in said.splitlines() if "ours-1" in line)
    assert "mb32x1 bf16" in row
    assert "910 ms" in row or "0.91 s" in row
    assert run(["calibrate", "--list"]) == 0
    assert capsys.readouterr().out == said


def test_nothing_kept_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calibrate", "--list"]) == 0
    assert "no measured run is kept" in capsys.readouterr().err


def test_a_known_run_is_replaced_and_that_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path, home: Path) -> None:
    assert run(["calibrate", "--from", "measured.yaml"]) == 0
    (tmp_path / "measured.yaml").write_text(MEASURED.replace("step_s: 1.1", "step_s: 1.2"))
    capsys.readouterr()
    assert run(["calibrate", "--from", "measured.yaml"]) == 0
    assert "measured.yaml#2 was known and is replaced" in capsys.readouterr().err
    kept = {entry.source: entry.measured_s for entry in MeasurementFile(home / "calibrations.json").kept().measurements}
    assert kept["measured.yaml#2"] == 1.2
    assert len(kept) == 3


def test_warm_up_is_dropped_when_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "measured.yaml").write_text(MEASURED.replace("    drop_first: 1\n", ""))
    dropped = asked(capsys, "calibrate", "--from", "measured.yaml", "--drop-first", "5")
    runs = {r["measurement"]["source"]: r["measurement"] for entry in dropped for r in entry["runs"]}
    assert (runs["ours-1"]["measured_s"], runs["ours-1"]["num_steps"]) == (0.91, 1)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("device: h100 sxm", "device: H1000", "measured.yaml:4:13: measurements[0].device: unknown device type 'H1000'"),
        ("framework: torchtitan", "framework: torchtitans", ":19:16: measurements[2].framework: unknown framework 'torchtitans'"),
        ("nodes: 2", "nodes: 3", "measurements[2].strategy: its degrees come to 16 ranks on 15 devices"),
        ("fsdp: 16", "fspd: 16", "measurements[2].strategy.fspd: unknown key"),
        ("micro_batch: 16,", "micro_batch: 5,", "measurements[1].strategy: its batch is 30 samples"),
        ("micro_batch: 16, recompute: full", "micro_batch: 16, zero_stage: 1", "measurements[1].strategy: zero_stage above 0"),
        ("steps_s: [9.0, 0.91, 0.9, 0.92, 0.9, 0.91]", "steps_s: [9.0]", "found 1 steps, of which the first 1 are dropped"),
        ("0.92, 0.9, 0.91]", "0.92, -1]", ":6:37: measurements[0].steps_s[4]: found -1"),
        ("[9.0, 0.91, 0.9, 0.92, 0.9, 0.91]", str([1.0] * 51), "measurements[0].steps_s: found 51 items; allowed: at most 50"),
        ("    step_s: 1.1\n", "", "measurements[1]: found neither step_s nor steps_s"),
        ("    num_steps: 40\n", "    steps_s: [1.0]\n", "measurements[1]: found both step_s and steps_s"),
        ("date: 2026-01-05", "date: 2096-01-05", "measurements[0].date: 2096-01-05 is yet to come"),
        ("preset: gpt2", "preset: gpt3", ":15:21: measurements[2].model.preset: unknown preset 'gpt3'"),
        ("    sequence_length: 1024\n", "", "measurements[2].sequence_length: missing"),
        (
            "run: ours-1\n    job: job.yaml",
            "run: ours-1\n    job: jobb.yaml",
            ":3:10: measurements[0].job: jobb.yaml is not there",
        ),
        ("  - job: job.yaml\n", "  - run: ours-1\n    job: job.yaml\n", "measurements[1].run: 'ours-1' is there twice"),
    ],
)
def test_a_wrong_entry_is_named_with_its_line_and_nothing_is_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, home: Path, old: str, new: str, words: str
) -> None:
    assert old in MEASURED
    (tmp_path / "measured.yaml").write_text(MEASURED.replace(old, new, 1))
    assert words in refused(capsys, "--from", "measured.yaml")
    assert not (home / "calibrations.json").exists()


def test_names_are_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calibrate", "--from", "measured.yaml", "-o", "name"]) == 0
    assert capsys.readouterr().out.split() == ["H100-SXM5-80GB/torchtitan/formulas", "H100-SXM5-80GB/trimtab/roofline"]


# ------------------------------------------------------------------------------------------------------------- jobs of ours


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Rig]:
    """A control plane with the command line's state folder, which the command line finds running."""
    home.mkdir()
    made = Rig(script=Script(figures={"timed_steps": 18.0, "step_median_s": 1.5}))
    made.ports = replace(made.ports, measurements=MeasurementFile(home / "calibrations.json"))
    made.restart()
    with TemporaryDirectory(prefix="tt-") as folder, served(Path(folder), made) as server:
        monkeypatch.setattr(Session, "connect", lambda _: server.client)
        yield made


def test_a_finished_job_was_taken_in_and_is_shown_by_its_name(capsys: pytest.CaptureFixture[str], rig: Rig) -> None:
    job = rig.submit(train_job("lm"))
    rig.run(60)
    (shown,) = asked(capsys, "calibrate", "lm")
    (only,) = shown["runs"]
    assert only["measurement"]["source"] == f"{job}.u0.a1"
    assert (only["measurement"]["predicted_s"], only["measurement"]["measured_s"]) == (1.0, 1.5)
    assert 1.0 < only["calibrated_s"]["value"] <= 1.5
    assert run(["calibrate", "--forget", f"{job}.u0.a1"]) == 0
    rig.run(10)
    assert asked(capsys, "calibrate", "--list") == []
    (again,) = asked(capsys, "calibrate", job)
    assert again["runs"][0]["measurement"] | {"model": ""} == only["measurement"] | {"model": ""}


@pytest.mark.parametrize(
    ("spec", "figures", "words"),
    [
        (train_job("job"), {}, "fewer than 5 typical steps"),
        (command_job("job"), {}, "it ran a program of yours"),
        (train_job("job"), None, "has not run to the end"),
    ],
)
def test_a_job_that_measures_nothing_says_why(
    capsys: pytest.CaptureFixture[str], rig: Rig, spec: JobSpec, figures: dict[str, float] | None, words: str
) -> None:
    script = Script(figures=figures) if figures is not None else Script(num_steps=10_000)
    rig.script = lambda _: script
    rig.submit(spec)
    rig.run(60)
    assert words in refused(capsys, "job")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "one of JOB, --from FILE, --list and --forget KEY is needed"),
        (("--list", "--forget", "x"), "one of JOB"),
        (("--list", "--drop-first", "2"), "--drop-first goes with --from FILE"),
        (("--from", "nowhere.yaml"), "nowhere.yaml: no such file"),
    ],
)
def test_wrong_calls(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str) -> None:
    assert words in refused(capsys, *arguments)


def test_a_shelf_that_cannot_be_read_stops_a_plan_and_names_the_entry(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    home.mkdir()
    MeasurementFile(home / "calibrations.json").put(measured(1.0))
    path = home / "calibrations.json"
    path.write_text(path.read_text().replace('"predicted_s":2.0', '"predicted_s":0'))
    capsys.readouterr()
    assert run(["plan", "job.yaml", "--inventory", "inventory.yaml"]) == 2
    assert "measurements[0]: predicted_s must be more than 0" in capsys.readouterr().err
