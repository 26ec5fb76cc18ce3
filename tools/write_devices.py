"""Writes ``docs/devices.md`` from the bundled catalogue of device types.

``python tools/write_devices.py`` writes the page, with ``--check`` it only says whether the page is current.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from planner.devices import PEAKS, CatalogueEntry, Figure, entries
from tools.pages import write_or_check
from trimtab.inventory import Torus

PAGE = Path(__file__).resolve().parents[1] / "docs" / "devices.md"

_INTRODUCTION = """\
# Device types

This page is made from `planner/devices/catalogue.json` by `tools/write_devices.py`; a test checks that it is current.
A device is one GPU or one TPU chip (not one core). Peaks are dense: where a vendor prints peaks with sparsity, half of them
stand here. Links are one way, as all that one device sends; where a vendor prints both ways, half of it stands here.

Memory is in GiB: data sheets print GB for memory that is built in binary sizes, and ECC and the driver keep a few percent of
it. On a machine that Trimtab can see, the memory that is there counts, and what `trimtab probe` measured goes before any figure
of this page. A figure marked with * was printed by nobody: its source says what was assumed.

Your own figures and types go into a file: [Device file](job-file.md#device-file).
"""
_NODES = """\
## Nodes

What joins the usual nodes (one device's share, one way), and what such a node reads and writes in all. The planner takes the
network where an inventory names none; a pool's `storage` goes before these figures. A checkpoint takes the bytes of the state
over nodes times write bandwidth, reading it at a restart likewise: one node uses its own disks, several use storage on the
network. "To a device" is the way between host memory and one device.
"""
_TORUS = """\
## Grids

TPU chips are joined to their neighbours along each axis, with two links an axis. A slice is a part of the grid; where an axis
of it closes into a ring, collectives along it run in both directions. "Whole cubes" means: any arrangement of cubes of that
length is a slice too, up to the largest, and it is closed along all axes.
"""


def page() -> str:
    """The whole page."""
    known = list(entries().values())
    parts = [_INTRODUCTION, "## Memory and links\n", _memory_table(known), "## Dense peaks in TFLOP/s\n", _peak_table(known)]
    parts += [_NODES, _node_table(known), _TORUS, _torus_table(known)]
    parts += ["## Names\n", _name_table(known), "## Sources\n", _source_table(known)]
    return "\n".join(parts)


def _memory_table(known: Iterable[CatalogueEntry]) -> str:
    columns: dict[str, Callable[[CatalogueEntry], str]] = {
        "Device": lambda e: str(e.device_type.name),
        "Memory, GiB": lambda e: _shown(e, "memory_gib"),
        "Memory, GB/s": lambda e: _shown(e, "memory_bandwidth_gb_per_s"),
        "Link": lambda e: e.device_type.link.name if e.device_type.link else "",
        "Link, GB/s one way": lambda e: _shown(e, "link_bandwidth_gb_per_s"),
        "Latency, µs": lambda e: _shown(e, "link_latency_us"),
        "Joined by it": lambda e: _shown(e, "domain_size"),
        "Per node": lambda e: _shown(e, "devices_per_node"),
    }
    return _table(columns, known)


def _peak_table(known: Iterable[CatalogueEntry]) -> str:
    def column(precision: str) -> Callable[[CatalogueEntry], str]:
        return lambda entry: _shown(entry, f"peak_{precision}_tflops")

    columns: dict[str, Callable[[CatalogueEntry], str]] = {"Device": lambda e: str(e.device_type.name)}
    return _table({**columns, **{precision: column(precision) for precision in PEAKS}}, known)


def _node_table(known: Iterable[CatalogueEntry]) -> str:
    columns: dict[str, Callable[[CatalogueEntry], str]] = {
        "Device": lambda e: str(e.device_type.name),
        "Network": lambda e: e.device_type.network.name if e.device_type.network else "",
        "GB/s": lambda e: _shown(e, "network_bandwidth_gb_per_s"),
        "Latency, µs": lambda e: _shown(e, "network_latency_us"),
        "Own disks, GB/s read": lambda e: _shown(e, "storage_local_read_gb_per_s"),
        "write": lambda e: _shown(e, "storage_local_write_gb_per_s"),
        "Network storage, GB/s read": lambda e: _shown(e, "storage_network_read_gb_per_s"),
        "write ": lambda e: _shown(e, "storage_network_write_gb_per_s"),
        "Host memory, GiB": lambda e: _shown(e, "storage_host_memory_gib"),
        "To a device, GB/s": lambda e: _shown(e, "storage_host_link_gb_per_s"),
    }
    return _table(columns, known)


def _torus_table(known: Iterable[CatalogueEntry]) -> str:
    lines = ["| Device | Largest slice | Other slices | Rings | One link, GB/s one way |", "|---|---|---|---|---|"]
    for entry in known:
        torus = entry.device_type.torus
        if torus is not None:
            cells = [str(entry.device_type.name), f"{_shape(torus.axes)} ({_shown(entry, 'torus_devices')} chips)"]
            cells += [_slices(torus), _rings(torus), _shown(entry, "torus_link_bandwidth_gb_per_s")]
            lines.append(_row(cells))
    return "\n".join([*lines, ""])


def _slices(torus: Torus) -> str:
    listed = ", ".join(_shape(shape) for shape in torus.slices if shape != torus.axes)
    return listed + (f"; whole cubes of {_shape((torus.ring_length,) * len(torus.axes))}" if torus.in_cubes else "")


def _rings(torus: Torus) -> str:
    if torus.in_cubes:
        return f"all axes, where each is a multiple of {torus.ring_length}"
    return f"an axis of {torus.ring_length}"


def _name_table(known: Iterable[CatalogueEntry]) -> str:
    columns: dict[str, Callable[[CatalogueEntry], str]] = {
        "Device": lambda e: str(e.device_type.name),
        "Also called": lambda e: ", ".join(e.aliases),
    }
    return "Case, spaces, `-` and `_` make no difference.\n\n" + _table(columns, known)


def _source_table(known: Iterable[CatalogueEntry]) -> str:
    lines = ["| Device | Figures | Source | Date |", "|---|---|---|---|"]
    for entry in known:
        by_origin: dict[tuple[str, str], list[str]] = {}
        for figure in entry.figures:
            by_origin.setdefault((figure.source, figure.retrieved_on), []).append(figure.name)
        for (source, date), names in by_origin.items():
            lines.append(_row([str(entry.device_type.name), ", ".join(f"`{name}`" for name in names), source, date]))
    return "\n".join([*lines, ""])


def _table(columns: dict[str, Callable[[CatalogueEntry], str]], known: Iterable[CatalogueEntry]) -> str:
    lines = [_row(columns), "|" + "---|" * len(columns)]
    lines += [_row([cell(entry) for cell in columns.values()]) for entry in known]
    return "\n".join([*lines, ""])


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(entry: CatalogueEntry, name: str) -> str:
    figure = entry.figure(name)
    return "" if figure is None else _number(figure) + (" *" if figure.is_assumed else "")


def _number(figure: Figure) -> str:
    """All digits that stand in the data; no exponent."""
    return f"{figure.value:.0f}" if math.isclose(figure.value, round(figure.value)) else repr(figure.value)


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(str(length) for length in shape)


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when the page is not current")
    return write_or_check(PAGE, page(), script=Path(__file__).name, check=parser.parse_args().check)


if __name__ == "__main__":
    sys.exit(main())
