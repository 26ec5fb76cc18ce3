"""The file of own device types: what is laid over the catalogue, what is added, and what is wrong in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from planner.devices import CatalogueEntry, catalogue
from scheduler.adapters.devices.own import all_entries, changes
from trimtab.errors import NotFoundError, SpecError

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
GOOD = """\
devices:
  - name: h100
    source: our own cluster
    date: 2026-11-02
    memory_bandwidth_gb_per_s: 2900
    peak_tflops: {bf16: {value: 800, source: measured with a probe, date: 2026-11-03}}
    network: {bandwidth_gb_per_s: 25}
    storage: {network_write_gb_per_s: 6}
  - name: NPU-9
    aliases: [npu9, Neural 9]
    kind: gpu
    memory_gib: 64
    memory_bandwidth_gb_per_s: 1600
    peak_tflops: {bf16: 376}
    link: {bandwidth_gb_per_s: 50, latency_us: 4, domain_size: 8}
  - name: Grid-1
    kind: tpu
    memory_gib: 16
    memory_bandwidth_gb_per_s: 800
    peak_tflops: {bf16: 200, fp8: 400}
    torus: {axes: 8x8, slices: [2x2, 4x4], ring_length: 8, in_cubes: false, link_bandwidth_gb_per_s: 45}
"""


def read(tmp_path: Path, text: str = GOOD) -> dict[str, CatalogueEntry]:
    path = tmp_path / "devices.yaml"
    path.write_text(text)
    return dict(all_entries(path, now=NOW))


def test_an_entry_changes_the_figures_that_it_states_and_leaves_the_others(tmp_path: Path) -> None:
    usual = catalogue()["H100-SXM5-80GB"]
    made = read(tmp_path)["H100-SXM5-80GB"].device_type
    assert made.memory_bandwidth_bytes_per_s == 2900e9
    assert dict(made.peak_flops) == {**usual.peak_flops, "bf16": 800e12}
    assert made.link == usual.link
    assert made.memory_bytes == usual.memory_bytes
    assert made.network is not None
    assert usual.network is not None
    assert (made.network.bandwidth_bytes_per_s, made.network.latency_s) == (25e9, usual.network.latency_s)
    assert made.storage is not None
    assert usual.storage is not None
    assert made.storage.network_write_bytes_per_s == 6e9
    assert made.storage.network_read_bytes_per_s == usual.storage.network_read_bytes_per_s


def test_every_changed_figure_names_the_file_and_what_it_says_of_its_source(tmp_path: Path) -> None:
    path = tmp_path / "devices.yaml"
    found = read(tmp_path)
    entry = found["H100-SXM5-80GB"]
    assert entry.device_type.source == f"{path}: our own cluster"
    assert entry.device_type.origins["peak_bf16_tflops"] == f"{path}: measured with a probe, 2026-11-03"
    assert entry.device_type.origins["peak_fp8_tflops"] == "NVIDIA H100 data sheet, 2023-03-01"
    told = {change.figure: change for change in changes(found) if change.device_type == "H100-SXM5-80GB"}
    assert set(told) == {
        "memory_bandwidth_gb_per_s",
        "peak_bf16_tflops",
        "network_bandwidth_gb_per_s",
        "storage_network_write_gb_per_s",
    }
    assert (told["peak_bf16_tflops"].before, told["peak_bf16_tflops"].value) == (989.4, 800)
    assert not told["peak_bf16_tflops"].is_new_type


def test_a_new_name_adds_a_type(tmp_path: Path) -> None:
    path = tmp_path / "devices.yaml"
    found = read(tmp_path)
    assert set(found) == {*catalogue(), "NPU-9", "Grid-1"}
    npu, grid = found["NPU-9"], found["Grid-1"].device_type
    assert npu.spellings == ("NPU-9", "npu9", "Neural 9")
    assert (npu.device_type.memory_bytes, npu.device_type.domain_size) == (64 * 2**30, 8)
    assert npu.device_type.link is not None
    assert npu.device_type.link.name == "link"
    assert (npu.device_type.source, npu.device_type.retrieved_on) == (str(path), "")
    assert grid.torus is not None
    assert grid.torus.slices == ((2, 2), (4, 4))
    assert all(change.is_new_type and change.before is None for change in changes(found) if change.device_type == "NPU-9")


def test_without_a_file_the_catalogue_is_all_there_is() -> None:
    assert set(all_entries(None, now=NOW)) == set(catalogue())
    assert changes(all_entries(None, now=NOW)) == ()
    with pytest.raises(NotFoundError, match="no such file"):
        all_entries(Path("/nowhere/devices.yaml"), now=NOW)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: h100", "name: h10", ["devices.yaml:2:5: devices[0].kind: missing; 'h10' is not in the catalogue"]),
        (
            "memory_bandwidth_gb_per_s: 2900",
            "memory_bandwith_gb_per_s: 2900",
            [":5:5:", "did you mean 'memory_bandwidth_gb_per_s'?"],
        ),
        ("{bf16: {value", "{bf61: {value", ["devices[0].peak_tflops.bf61", "fp32"]),
        ("value: 800", "value: fast", ["devices.yaml:6:33: devices[0].peak_tflops.bf16.value: found 'fast'", "a number"]),
        ("memory_gib: 64", "memory_gib: -64", ["devices.yaml:12:17: devices[1].memory_gib: found -64", "more than 0"]),
        ("    memory_gib: 64\n", "", ["devices[1].memory_gib: missing; 'NPU-9' is not in the catalogue"]),
        ("kind: gpu", "kind: gpus", ["devices.yaml:11:11", "did you mean 'gpu'?"]),
        (", latency_us: 4", "", ["devices[1].link.latency_us: missing; a new type needs all of its link"]),
        ("date: 2026-11-02", "date: 2026-12-02", ["devices[0].date: 2026-12-02 is yet to come", "at most 2026-11-26"]),
        ("date: 2026-11-03", "date: 2027-01-01", ["devices[0].peak_tflops.bf16.date: 2027-01-01 is yet to come"]),
        ("name: NPU-9", "name: H100-SXM5-80GB", ["devices[1].name: 'H100-SXM5-80GB' is there twice"]),
        ("[npu9, Neural 9]", "[A100]", ["devices[1].aliases: 'A100' is a spelling of A100-SXM4-40GB"]),
        ("name: Grid-1", "name: npu 9", ["devices[2].name: 'npu 9' is a spelling of NPU-9"]),
        ("name: Grid-1", "name: Grid-1\n    aliases: [NEURAL-9]", ["devices[2].aliases: 'NEURAL-9' is a spelling of NPU-9"]),
        ("axes: 8x8", "axes: 2x8x8", ["devices.yaml:21:12: devices[2].torus", "one length"]),
        ("axes: 8x8", "axes: 8-8", ["devices[2].torus.axes: found '8-8'", "4x4x8"]),
        ("ring_length: 8, ", "", ["devices[2].torus.ring_length: missing"]),
        ("name: h100", "name: h100\n    torus: {axes: 4x4}", ["the catalogue's type has no torus, so all of it is needed"]),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    assert old in GOOD
    with pytest.raises(SpecError) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    for part in expected:
        assert part in str(caught.value)


def test_a_misspelt_new_name_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="did you mean 'H200-SXM5-141GB'"):
        read(tmp_path, "devices:\n  - {name: H200-SMX5-141GB, memory_gib: 140}\n")
