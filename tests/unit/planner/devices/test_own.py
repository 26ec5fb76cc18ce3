"""The user's own device types: what is read, what is refused and how, and how they lie over the bundled ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import planner.devices
from planner.devices import device_type, entries, merged, read_devices, spellings
from trimtab.errors import Problem, SpecError
from trimtab.inventory import DeviceKind, Torus

OWN = """\
devices:
  - name: Acme-X1
    aliases: [acme-x1-64g, X1]
    kind: gpu
    source: Acme X1 data sheet
    date: 2026-01-05
    memory_gib: 64
    memory_bandwidth_gb_per_s: 2400
    peak_tflops:
      fp32: 40
      bf16: {value: 320, source: measured here, date: 2026-02-01}
    link: {name: AcmeLink 2, bandwidth_gb_per_s: 200, latency_us: 5, domain_size: 256}
    devices_per_node: 8
    torus: {axes: 16x16, slices: [2x2, 8x4, 16x16], ring_length: 16, in_cubes: false, link_bandwidth_gb_per_s: 50}
"""
MINIMAL = """\
devices:
  - name: Plain
    kind: cpu
    memory_gib: {value: 12.5, source: a, date: 2026-01-05}
    memory_bandwidth_gb_per_s: {value: 90, source: b, date: 2026-01-06}
    peak_tflops: {fp32: {value: 1.5, source: c, date: 2026-01-07}}
"""


ALIASES = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + inner] * 9)}]\n" for inner, name in zip("abcdef", "bcdefg", strict=True)
)
"""Nine to the seventh values in seven lines."""


def problems(text: str) -> dict[str, Problem]:
    with pytest.raises(SpecError) as caught:
        read_devices(text, source="own.yaml")
    assert "own.yaml" in str(caught.value)
    return {problem.path: problem for problem in caught.value.problems}


def test_a_device_is_read_with_units_and_origins() -> None:
    (entry,) = read_devices(OWN, source="own.yaml").values()
    made = entry.device_type
    assert (made.name, made.kind, entry.aliases) == ("Acme-X1", DeviceKind.GPU, ("acme-x1-64g", "X1"))
    assert made.memory_bytes == 64 * 2**30
    assert made.memory_bandwidth_bytes_per_s == 2.4e12
    assert made.peak_flops == {"fp32": 40e12, "bf16": 320e12}
    assert made.link is not None
    assert (made.link.name, made.link.bandwidth_bytes_per_s, made.link.latency_s) == ("AcmeLink 2", 200e9, pytest.approx(5e-6))
    assert (made.domain_size, made.devices_per_node) == (256, 8)
    assert made.torus == Torus(
        axes=(16, 16), slices=((2, 2), (4, 8), (16, 16)), ring_length=16, in_cubes=False, link_bandwidth_bytes_per_s=50e9
    )
    origins = {figure.name: (figure.source, figure.retrieved_on) for figure in entry.figures}
    assert origins["memory_gib"] == ("Acme X1 data sheet", "2026-01-05")
    assert origins["peak_bf16_tflops"] == ("measured here", "2026-02-01")


def test_a_device_needs_no_more_than_memory_and_a_peak() -> None:
    (entry,) = read_devices(MINIMAL, source="own.yaml").values()
    made = entry.device_type
    assert (made.link, made.domain_size, made.devices_per_node, made.torus) == (None, 1, None, None)
    assert [figure.source for figure in entry.figures] == ["a", "b", "c"]


def test_the_bundled_file_says_the_same_in_the_users_notation() -> None:
    """Every bundled device can be written down by a user and read back: the two notations have the same keys."""
    path = Path(planner.devices.__file__).with_name("catalogue.json")
    bundled = json.loads(path.read_text(encoding="utf-8"))

    def own(value: object) -> object:
        if isinstance(value, list) and len(value) == 2 and isinstance(value[1], str) and value[1] in bundled["sources"]:
            origin = bundled["sources"][value[1]]
            return {"value": value[0], "source": origin["title"], "date": origin["date"]}
        return {key: own(item) for key, item in value.items()} if isinstance(value, dict) else value

    text = json.dumps({"devices": [own(device) for device in bundled["devices"]]})
    assert dict(read_devices(text, source="own.json")) == dict(entries())


def test_every_problem_is_listed_with_its_line() -> None:
    found = problems(
        """\
devices:
  - name: Acme-X1
    kind: gpuu
    sources: a page
    date: 2026-01-05
    memory_gib: -4
    memory_bandwidth_gb_per_s: {value: fast, source: here, date: 2026-02-31}
    peak_tflops: {fp32: 40, bf61: 320}
    link: {name: AcmeLink, bandwidth_gb_per_s: 200}
  - name: acme x1
    kind: tpu
"""
    )
    lines = {path: problem.line for path, problem in found.items()}
    assert lines == {
        "devices[0].kind": 3,
        "devices[0].sources": 4,
        "devices[0].memory_gib": 6,
        "devices[0].memory_gib.source": 6,
        "devices[0].memory_bandwidth_gb_per_s.value": 7,
        "devices[0].memory_bandwidth_gb_per_s.date": 7,
        "devices[0].peak_tflops.fp32.source": 8,
        "devices[0].peak_tflops.bf61": 8,
        "devices[0].link.bandwidth_gb_per_s.source": 9,
        "devices[0].link.latency_us": 9,
        "devices[1].name": 10,
        "devices[1].memory_gib": 10,
        "devices[1].memory_bandwidth_gb_per_s": 10,
        "devices[1].peak_tflops": 10,
    }
    kind = found["devices[0].kind"]
    assert (kind.message, kind.allowed, kind.nearest) == ("found 'gpuu'", "cpu, gpu, tpu", "'gpu'")
    assert found["devices[0].sources"].nearest == "'source'"
    assert found["devices[0].peak_tflops.bf61"].nearest == "'bf16'"
    assert "nvfp4" in (found["devices[0].peak_tflops.bf61"].allowed or "")
    assert "more than 0" in (found["devices[0].memory_gib"].allowed or "")
    assert "'acme x1' stands for devices[0]" in found["devices[1].name"].message


def test_problems_come_in_the_order_of_their_lines() -> None:
    with pytest.raises(SpecError) as caught:
        read_devices(OWN.replace("kind: gpu", "kind: no").replace("date: 2026-01-05", "date: 2026-13-05"), source="own.yaml")
    assert [problem.line for problem in caught.value.problems] == [4, 6]


@pytest.mark.parametrize(
    ("old", "new", "path", "line"),
    [
        ("2026-01-05", "'last week'", "devices[0].date", 6),
        ("2026-01-05", "2026-02-30", "devices[0].date", 6),
        ("Acme X1 data sheet", "''", "devices[0].source", 5),
        ("memory_gib: 64", "memory_gib:", "devices[0].memory_gib", 7),
        ("memory_gib: 64", "memory_gib: .inf", "devices[0].memory_gib", 7),
        ("memory_gib: 64", "memory_gib: true", "devices[0].memory_gib", 7),
        ("domain_size: 256", "domain_size: 0", "devices[0].link.domain_size", 12),
        ("domain_size: 256", "domain_size: 8", "devices[0].link.domain_size", 12),
        ("devices_per_node: 8", "devices_per_node: 1.5", "devices[0].devices_per_node", 13),
        ("axes: 16x16", "axes: 16 by 16", "devices[0].torus.axes", 14),
        ("axes: 16x16", "axes: 16x8", "devices[0].torus", 14),
        ("ring_length: 16", "ring_length: 1", "devices[0].torus.ring_length", 14),
        ("in_cubes: false", "in_cubes: 0", "devices[0].torus.in_cubes", 14),
        ("link_bandwidth_gb_per_s: 50", "link_bandwidth_gb_per_s: 100", "devices[0].link.bandwidth_gb_per_s", 12),
        ("[acme-x1-64g, X1]", "[x2, '*']", "devices[0].aliases[1]", 3),
        ("name: Acme-X1", "name: 7", "devices[0].name", 2),
    ],
)
def test_each_wrong_value_is_named(old: str, new: str, path: str, line: int) -> None:
    assert old in OWN
    problem = problems(OWN.replace(old, new))[path]
    assert problem.line == line
    assert problem.allowed


def test_a_link_that_its_torus_cannot_carry_names_what_it_can() -> None:
    problem = problems(OWN.replace("bandwidth_gb_per_s: 200", "bandwidth_gb_per_s: 400"))["devices[0].link.bandwidth_gb_per_s"]
    assert problem.nearest == "200"


def test_a_torus_needs_a_link_and_a_device_a_peak() -> None:
    without_link = "\n".join(line for line in OWN.splitlines() if "AcmeLink" not in line)
    assert list(problems(without_link)) == ["devices[0].torus"]
    without_peak = MINIMAL.replace("{fp32: {value: 1.5, source: c, date: 2026-01-07}}", "{}")
    assert list(problems(without_peak)) == ["devices[0].peak_tflops"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("- a\n", "found list"),
        ("devices: 3\n", "a list"),
        ("device: []\n", "did you mean 'devices'?"),
        ("devices: [\n", "not YAML"),
        ("devices: !!python/name:os.system\n", "not YAML"),
        ("devices: []\ndevices: []\n", "stands twice (first on line 1)"),
        ("? [a]\n: b\n", "plain text"),
        ("devices: [\x00]\n", "not YAML"),
        ("devices: " + "[" * 20 + "]" * 20, "levels"),
        (ALIASES, "values"),
        ("#" * 300_000, "KiB"),
    ],
)
def test_text_that_is_no_such_file(text: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_devices(text, source="own.yaml")
    assert says in str(caught.value)


def test_own_devices_lie_over_the_bundled_ones() -> None:
    known = merged(read_devices(OWN, source="own.yaml"))
    assert set(known) == {*entries(), "Acme-X1"}
    assert device_type("x1", known=known).name == "Acme-X1"
    assert device_type("H100", known=known) == entries()["H100-SXM5-80GB"].device_type
    with pytest.raises(SpecError):
        device_type("x1")


def test_an_own_device_replaces_the_bundled_one_of_its_name() -> None:
    known = merged(read_devices(OWN.replace("Acme-X1", "h100 sxm5 80gb"), source="own.yaml"))
    assert "H100-SXM5-80GB" not in known
    assert device_type("H100-SXM5-80GB", known=known).memory_bytes == 64 * 2**30


def test_an_own_device_takes_over_the_spellings_that_it_names() -> None:
    known = merged(read_devices(OWN.replace("X1]", "H100]"), source="own.yaml"))
    assert device_type("h100", known=known).name == "Acme-X1"
    assert device_type("H100-SXM", known=known).name == "H100-SXM5-80GB"
    assert "H100" not in spellings(known)["H100-SXM5-80GB"]


def test_nothing_of_ones_own_leaves_the_bundled_catalogue() -> None:
    assert dict(merged({})) == dict(entries())
