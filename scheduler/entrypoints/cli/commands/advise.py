"""``trimtab advise``: which micro-batch fits, which global batch is worth taking, and what both do to time and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import scheduler.bootstrap as bootstrap
from scheduler.entrypoints.cli.advicetext import AdvicePage, advice_lines
from scheduler.entrypoints.cli.advising import AdviceRequest, asked_for
from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.common import DeviceFileOption, FileArgument, Format, OutputOption, PriceFileOption, open_session
from scheduler.entrypoints.cli.output import show_one
from trimtab.jobspec import Trainer

app = new_command()

_InventoryOption = Annotated[
    Path | None, typer.Option("--inventory", metavar="FILE", help="Pools of this file instead of this machine.")
]
_PoolOption = Annotated[str | None, typer.Option("--pool", metavar="ID", help="Which pool; the first that suits, if not said.")]
_DeviceOption = Annotated[str | None, typer.Option("--device", metavar="TYPE", help="A device type of the catalogue instead.")]
_NumDevicesOption = Annotated[int | None, typer.Option("--devices", metavar="N", min=1, help="How many devices of --device.")]
_FrameworkOption = Annotated[
    Trainer | None, typer.Option("--framework", help="The trainer, instead of the one that the job file names.")
]
_DataOption = Annotated[
    str | None, typer.Option("--data-size", metavar="TOKENS", help="Tokens of the data set, each counted once: 300M, 15B.")
]
_NoiseOption = Annotated[
    float | None,
    typer.Option("--noise-scale", metavar="SAMPLES", help="Measured gradient-noise scale, instead of a published law."),
]


@app.command()
def advise(
    ctx: typer.Context,
    file: FileArgument,
    inventory: _InventoryOption = None,
    pool: _PoolOption = None,
    device: _DeviceOption = None,
    devices: _NumDevicesOption = None,
    framework: _FrameworkOption = None,
    data_size: _DataOption = None,
    noise_scale: _NoiseOption = None,
    device_file: DeviceFileOption = None,
    price_file: PriceFileOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Advise on batches: micro-batches that fit, the global batch, time and cost. No solver, no server.

    Exit code 3: no strategy fits.
    """
    session = open_session(ctx).with_files(devices=device_file, prices=price_file)
    request = AdviceRequest(
        file=file,
        inventory=inventory,
        pool=pool,
        device=device,
        num_devices=devices,
        framework=framework,
        data_tokens=data_size,
        noise_samples=noise_scale,
    )
    asked = asked_for(session.settings, request)
    found = bootstrap.advise_here(asked.order)
    page = AdvicePage(advice=found, asked=asked, width=session.console.width, style=session.console.style)
    show_one(session.console, output, found, lines=lambda: advice_lines(page), name=str(found.recommended.global_batch))
    if asked.others and output.for_people:
        session.note(f"advice is for pool {asked.order.pool.id}; others: {', '.join(f'--pool {name}' for name in asked.others)}")
