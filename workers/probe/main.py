"""``python -m workers.probe``: measure this machine's devices and print a ProbeReport as JSON."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from trimtab.fingerprint import NodeFacts, cpu_slots, host_memory_bytes, node_facts
from trimtab.inventory import DeviceKind, ProbeReport
from trimtab.wire import dumps
from workers.probe.progress import ProgressLine
from workers.probe.ranks import ProbeError, RankPlace, run_ranks
from workers.probe.report import make_points, make_report, measured_device_type

USABLE_MEMORY_FRAC = 0.9


def measure(*, kind: DeviceKind, num_devices: int | None, quick: bool) -> ProbeReport:
    """Probe ``num_devices`` devices (None: all).

    Raises ValueError for a number that the machine has not, ProbeError on a failed rank.
    """
    facts = node_facts()
    places = rank_places(facts, kind=kind, num_devices=num_devices)
    line = ProgressLine(sys.stderr, title=f"probe of {len(places)} {kind} device(s)")
    begin = datetime.now(UTC)
    samples = run_ranks(places, quick=quick, on_progress=line.show)
    end = datetime.now(UTC)
    points = make_points(samples)
    line.close(f"{len(points)} points in {(end - begin).total_seconds():.1f} s")
    device_type = measured_device_type(
        points, facts=facts, kind=kind, memory_bytes=device_memory_bytes(kind, num_devices), on=end
    )
    return make_report(points, device_type=device_type, facts=facts, num_devices=len(places), span=(begin, end))


def rank_places(facts: NodeFacts, *, kind: DeviceKind, num_devices: int | None) -> list[RankPlace]:
    """One place per device: cores as the local executor gives them, or GPUs by number."""
    if kind is DeviceKind.CPU:
        return [RankPlace(kind=kind, cores=cores) for cores in cpu_slots(num_devices)]
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = visible or [str(index) for index in range(len(facts.gpus))]
    if not names or (num_devices is not None and not 1 <= num_devices <= len(names)):
        raise ValueError(f"--devices: found {len(names)} NVIDIA devices, asked for {num_devices or 'all'}")
    return [RankPlace(kind=kind, gpu=name) for name in names[:num_devices]]


def device_memory_bytes(kind: DeviceKind, num_devices: int | None) -> int:
    """Memory of one device: a share of the host's for CPU devices, the device's own otherwise."""
    if kind is DeviceKind.CPU:
        return int(host_memory_bytes() * USABLE_MEMORY_FRAC) // len(cpu_slots(num_devices))
    free, total = torch.cuda.mem_get_info(0)
    assert free <= total
    return int(total)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. JSON goes to stdout or ``--output``, the rest to stderr. Exit code 1 when a rank failed, 2 on bad use."""
    parser = argparse.ArgumentParser(
        prog="python -m workers.probe", description="Measure matrix products, memory and collectives of this machine's devices."
    )
    parser.add_argument("--devices", type=int, metavar="N", help="how many devices (default: all)")
    parser.add_argument("--kind", type=DeviceKind, choices=(DeviceKind.CPU, DeviceKind.GPU), help="default: gpu if any")
    parser.add_argument("--quick", action="store_true", help="a few points, one pass: for tests")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report here instead of stdout")
    options = parser.parse_args(argv)
    kind = options.kind or (DeviceKind.GPU if node_facts().gpus else DeviceKind.CPU)
    try:
        report = measure(kind=kind, num_devices=options.devices, quick=options.quick)
    except ValueError as error:
        parser.error(str(error))
    except ProbeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    text = dumps(report) + "\n"
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text)
    return 0
