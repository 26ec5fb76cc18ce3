"""``trimtab trace``: measure a model that only its code describes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.commands.probe import Kind
from scheduler.entrypoints.cli.common import Format, OutputOption, open_session
from scheduler.entrypoints.cli.output import show_one
from scheduler.entrypoints.cli.tracetext import trace_lines
from scheduler.entrypoints.cli.tracing import Trace, run_trace

app = new_command()


@app.command()
def trace(
    ctx: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="MODULE:CALLABLE", help="package.module:callable or path/to/file.py:callable.")
    ],
    inputs: Annotated[
        list[str],
        typer.Option("--input", metavar="NAME=SHAPE:DTYPE", help="An input of forward, such as tokens=BxS:int64."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write the document here.")],
    config: Annotated[
        list[str] | None, typer.Option("--config", metavar="KEY=VALUE", help="A keyword argument of the callable.")
    ] = None,
    batch: Annotated[str | None, typer.Option("--batch", metavar="N", help="Samples, the size of B (2).")] = None,
    length: Annotated[str | None, typer.Option("--length", metavar="N", help="Tokens of a sample, the size of S.")] = None,
    device: Annotated[
        Kind | None, typer.Option("--device", help="Whose kernels of attention and dropout to assume (gpu).")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Name of the model (the callable's).")] = None,
    time_limit: Annotated[str | None, typer.Option("--time-limit", metavar="TIME", help="End it after this time (5m).")] = None,
    memory_limit: Annotated[
        str | None, typer.Option("--memory-limit", metavar="SIZE", help="Memory that it may use (8GiB).")
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Count parameters, FLOPs and kept activations of a torch module, part by part; a job names the document as its model.

    The module runs on tensors without data, in a process of its own. In a shape, B is the batch and S the sequence.
    """
    session = open_session(ctx)
    asked = Trace(
        target=target,
        out=out,
        inputs=inputs,
        config=config or [],
        batch=batch,
        length=length,
        device=None if device is None else str(device),
        name=name,
        time_limit=time_limit,
        memory_limit=memory_limit,
    )
    document = run_trace(session.settings, asked)
    wide = output is Format.WIDE
    lines = lambda: trace_lines(document, style=session.console.style, everything=wide)  # noqa: E731
    show_one(session.console, output, document, lines=lines, name=str(out))
    for note in document.origin.notes:
        session.note(note)
