"""The figures of the catalogue: where each comes from, and the relations that the hardware imposes on them.

Printed figures are rounded and now and then sparse, both ways or in another unit; each relation here catches one such slip.
"""

from __future__ import annotations

from datetime import date
from itertools import product

import pytest

from planner.devices import PEAKS, CatalogueEntry, entries
from trimtab.inventory import DeviceKind, DeviceType

ENTRIES = [pytest.param(entry, id=name) for name, entry in entries().items()]
TYPES = [pytest.param(entry.device_type, id=name) for name, entry in entries().items()]
TORI = [pytest.param(entry.device_type, id=name) for name, entry in entries().items() if entry.device_type.torus is not None]
AMPERE_AND_LATER = (
    "A10G", "A100", "A800", "L4-", "L40S", "RTX-6000", "H100", "H200", "GH200", "B200", "B300", "GB200", "GB300", "MI3",
)  # fmt: skip
NO_TF32_UNITS = "MI355X-288GB"
FP32_RATE_TF32 = ("RTX-3090-24GB", "RTX-4090-24GB", "RTX-5090-32GB")
BEFORE_BF16 = ("V100", "T4", "RTX-2080", "Titan-RTX")
"""The gaming cards multiply at half rate when they accumulate in fp32, so that tf32 is no faster than plain fp32."""


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_figure_names_its_source_and_date(entry: CatalogueEntry) -> None:
    made = entry.device_type
    names = [figure.name for figure in entry.figures]
    wanted = {"memory_gib", "memory_bandwidth_gb_per_s", "link_bandwidth_gb_per_s", "link_latency_us", "domain_size"}
    wanted |= {f"peak_{precision}_tflops" for precision in made.peak_flops}
    wanted |= {"network_bandwidth_gb_per_s", "network_latency_us", "storage_host_memory_gib"}
    wanted |= {f"storage_{name}_gb_per_s" for name in ("network_read", "network_write", "host_link")}
    if made.kind is not DeviceKind.TPU:  # a TPU host has no disks of its own
        wanted |= {"storage_local_read_gb_per_s", "storage_local_write_gb_per_s"}
    wanted |= {"devices_per_node"} if made.devices_per_node is not None else set()
    if made.torus is not None:
        wanted |= {"torus_devices", "torus_slices", "torus_ring_length", "torus_link_bandwidth_gb_per_s"}
    assert set(names) == wanted
    assert len(names) == len(set(names))
    for figure in entry.figures:
        assert len(figure.source) > 10
        assert date(2017, 1, 1) <= date.fromisoformat(figure.retrieved_on) <= date(2026, 12, 31)
    assert (made.source, made.retrieved_on) in {(figure.source, figure.retrieved_on) for figure in entry.figures}


@pytest.mark.parametrize("made", TYPES)
def test_ranges(made: DeviceType) -> None:
    assert 11 * 2**30 <= made.memory_bytes <= 288 * 2**30
    assert 3e11 <= made.memory_bandwidth_bytes_per_s <= 8e12
    assert set(made.peak_flops) <= set(PEAKS)
    assert all(1e12 < peak < 1.5e16 for peak in made.peak_flops.values())
    assert made.link is not None
    assert 1.6e10 <= made.link.bandwidth_bytes_per_s <= 9e11
    assert 1e-7 < made.link.latency_s < 1e-4
    assert made.link.bandwidth_bytes_per_s < made.memory_bandwidth_bytes_per_s
    assert ("bf16" in made.peak_flops) != made.name.startswith(BEFORE_BF16)


@pytest.mark.parametrize("made", TYPES)
def test_a_narrower_format_is_never_slower(made: DeviceType) -> None:
    widths = {"fp64": 64, "fp32": 32, "tf32": 19, "bf16": 16, "fp16": 16, "fp8": 8, "mxfp8": 8, "mxfp4": 4, "nvfp4": 4}
    for (one, slow), (other, fast) in product(made.peak_flops.items(), repeat=2):
        assert widths[one] <= widths[other] or slow <= fast, f"{one} against {other}"


@pytest.mark.parametrize("made", TYPES)
def test_half_the_bits_are_twice_the_rate(made: DeviceType) -> None:
    peaks = made.peak_flops
    if "bf16" in peaks and "fp16" in peaks:
        assert peaks["fp16"] == peaks["bf16"]
    if "fp8" in peaks:
        assert peaks["fp8"] == pytest.approx(2 * peaks["bf16"], rel=0.015)
    if "mxfp8" in peaks:
        assert peaks["mxfp8"] == peaks["fp8"]
    if "mxfp4" in peaks:
        assert peaks["mxfp4"] == pytest.approx(2 * peaks["fp8"], rel=0.01)
    if "nvfp4" in peaks:
        times = {"B300-SXM-270GB": 3, "GB300-279GB": 3, "RTX-5090-32GB": 4}.get(str(made.name), 2)
        assert peaks["nvfp4"] == pytest.approx(times * peaks["fp8"], rel=0.01)


@pytest.mark.parametrize("made", TYPES)
def test_tf32_is_half_of_bf16_where_there_are_units_for_it(made: DeviceType) -> None:
    has_units = made.name.startswith(AMPERE_AND_LATER) and made.name != NO_TF32_UNITS
    assert ("tf32" in made.peak_flops) == (has_units or made.name in FP32_RATE_TF32)
    if "tf32" in made.peak_flops:
        assert made.peak_flops["tf32"] == pytest.approx(made.peak_flops["bf16"] / 2, rel=0.025)
    if made.name in FP32_RATE_TF32:
        assert made.peak_flops["tf32"] == pytest.approx(made.peak_flops["fp32"], rel=0.01)


@pytest.mark.parametrize("made", TYPES)
def test_formats_of_each_family(made: DeviceType) -> None:
    blackwell = made.name.startswith(("B200", "B300", "GB200", "GB300", "RTX-5090"))
    assert ("nvfp4" in made.peak_flops) == blackwell
    eight_bits = ("L4", "RTX-4", "RTX-5", "RTX-6", "H100", "H200", "GH200", "B200", "B300", "GB200", "GB300", "MI3", "TPU-v7x")
    assert ("fp8" in made.peak_flops) == made.name.startswith(eight_bits)
    assert (made.kind is DeviceKind.TPU) == made.name.startswith("TPU-")
    assert ("fp32" in made.peak_flops) == (made.kind is DeviceKind.GPU)


@pytest.mark.parametrize("made", TYPES)
def test_links_are_one_way_and_match_their_name(made: DeviceType) -> None:
    assert made.link is not None
    one_way = {
        "PCIe 3 x16": 16e9, "PCIe 4 x16": 32e9, "PCIe 5 x16": 64e9, "NVLink 2": 150e9, "NVLink 3": 300e9,
        "NVLink 3, 8 links": 200e9, "NVLink 4": 450e9, "NVLink 4 bridge": 300e9, "NVLink 5": 900e9,
        "Infinity Fabric": made.link.bandwidth_bytes_per_s,
    }  # fmt: skip
    if made.torus is None:
        assert made.link.bandwidth_bytes_per_s == one_way[made.link.name]
        assert (made.domain_size == 1) == made.link.name.startswith("PCIe")
    if made.link.name == "Infinity Fabric":
        assert made.link.bandwidth_bytes_per_s / 7 == pytest.approx({"MI355X-288GB": 76.8e9}.get(str(made.name), 64e9))


@pytest.mark.parametrize("made", TYPES)
def test_domains(made: DeviceType) -> None:
    assert (made.domain_size == 72) == made.name.startswith(("GB200", "GB300"))
    if made.devices_per_node is not None:
        assert made.devices_per_node == (4 if made.name.startswith(("G", "TPU-v3", "TPU-v4", "TPU-v5p", "TPU-v7x")) else 8)
        assert made.domain_size % made.devices_per_node == 0
        assert made.domain_size >= made.devices_per_node
    else:
        assert made.domain_size <= 2


@pytest.mark.parametrize(("name", "num_devices"), [("GB200-186GB", 4), ("GB300-279GB", 4), ("GH200-96GB", 4), ("TPU-v5p", 4)])
def test_devices_of_a_node(name: str, num_devices: int) -> None:
    assert entries()[name].device_type.devices_per_node == num_devices


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A100-SXM4-40GB", "A100-SXM4-80GB"),
        ("H100-SXM5-80GB", "H200-SXM5-141GB"),
        ("H100-SXM5-80GB", "GH200-96GB"),
        ("MI300X-192GB", "MI325X-256GB"),
        ("V100-SXM2-16GB", "V100-SXM2-32GB"),
        ("A100-SXM4-80GB", "A100-PCIe-80GB"),
        ("A100-SXM4-80GB", "A800-SXM4-80GB"),
    ],
)
def test_the_same_chip_with_other_memory_computes_as_fast(one: str, other: str) -> None:
    assert entries()[one].device_type.peak_flops == entries()[other].device_type.peak_flops


def test_only_tpus_have_a_torus() -> None:
    assert all((e.device_type.torus is not None) == (e.device_type.kind is DeviceKind.TPU) for e in entries().values())


@pytest.mark.parametrize("made", TORI)
def test_the_links_of_a_torus_add_up_to_the_link_bandwidth(made: DeviceType) -> None:
    assert made.torus is not None
    assert made.link is not None
    total = made.torus.num_links * made.torus.link_bandwidth_bytes_per_s
    assert made.link.bandwidth_bytes_per_s == pytest.approx(total, rel=1e-9)
    assert made.link.name == f"ICI {len(made.torus.axes)}D torus"


@pytest.mark.parametrize("made", TORI)
def test_slices_of_a_torus(made: DeviceType) -> None:
    torus = made.torus
    assert torus is not None
    assert torus.num_devices <= made.domain_size
    assert torus.is_slice(torus.axes)
    assert all(torus.is_slice(shape) for shape in torus.slices)
    assert all(torus.rings(torus.axes)), "the largest slice is closed all the way round"
    assert list(torus.slices) == sorted(set(torus.slices), key=lambda shape: (sum(shape), shape))
    assert not torus.is_slice(tuple(2 * length for length in torus.axes))
    assert torus.in_cubes == (made.link is not None and made.link.name == "ICI 3D torus")


@pytest.mark.parametrize(
    ("name", "shape", "rings"),
    [
        ("TPU-v5e", (8, 16), (False, True)),
        ("TPU-v6e", (16, 16), (True, True)),
        ("TPU-v6e", (8, 8), (False, False)),
        ("TPU-v5p", (4, 4, 8), (True, True, True)),
        ("TPU-v4", (2, 4, 4), (False, False, False)),
        ("TPU-v3", (16, 32), (False, True)),
    ],
)
def test_rings_of_known_slices(name: str, shape: tuple[int, ...], rings: tuple[bool, ...]) -> None:
    torus = entries()[name].device_type.torus
    assert torus is not None
    assert torus.is_slice(shape)
    assert torus.rings(shape) == rings


def test_what_nobody_printed_says_so() -> None:
    assumed = {(name, f.name) for name, e in entries().items() for f in e.figures if f.is_assumed}
    assert ("B300-SXM-270GB", "memory_gib") in assumed
    assert ("TPU-v7x", "torus_devices") in assumed
    assert ("H100-SXM5-80GB", "peak_bf16_tflops") not in assumed


def test_a_figure_of_another_source_than_the_type_keeps_its_own_origin() -> None:
    made = entries()["H100-SXM5-80GB"].device_type
    assert made.source == "NVIDIA H100 data sheet"
    assert made.origins["network_bandwidth_gb_per_s"].startswith("NVIDIA DGX BasePOD")
    assert "memory_bandwidth_gb_per_s" not in made.origins


@pytest.mark.parametrize("made", TYPES)
def test_what_lies_between_nodes_is_slower_than_what_lies_within(made: DeviceType) -> None:
    assert made.network is not None
    assert made.storage is not None
    assert made.link is not None
    assert made.network.bandwidth_bytes_per_s <= made.link.bandwidth_bytes_per_s
    assert made.network.latency_s >= made.link.latency_s
    rates = made.storage
    assert rates.network_read_bytes_per_s is not None
    assert rates.network_write_bytes_per_s is not None
    assert rates.host_link_bytes_per_s is not None
    assert rates.host_memory_bytes is not None
    assert rates.network_write_bytes_per_s <= rates.network_read_bytes_per_s
    assert rates.network_read_bytes_per_s <= (made.devices_per_node or 1) * made.network.bandwidth_bytes_per_s
    assert 15e9 <= rates.host_link_bytes_per_s <= 450e9
    assert rates.host_memory_bytes >= 64 * 2**30
    if rates.local_write_bytes_per_s is not None and rates.local_read_bytes_per_s is not None:
        assert rates.network_write_bytes_per_s < rates.local_write_bytes_per_s < rates.local_read_bytes_per_s


@pytest.mark.parametrize(
    ("name", "gb_per_s"),
    [("A100-SXM4-80GB", 25), ("H100-SXM5-80GB", 50), ("B300-SXM-270GB", 100), ("GB200-186GB", 50), ("TPU-v5e", 3.125)],
)
def test_the_usual_network(name: str, gb_per_s: float) -> None:
    network = entries()[name].device_type.network
    assert network is not None
    assert network.bandwidth_bytes_per_s == pytest.approx(gb_per_s * 1e9)
