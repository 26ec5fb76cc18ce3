"""A traced model as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scheduler.entrypoints.cli.columns import table
from scheduler.entrypoints.cli.words import bytes_text, count_text, plural
from trimtab.spec.model_document import ModelDocument, PartMeasure

Style = Callable[..., str]
_MAX_ROWS = 40


def trace_lines(document: ModelDocument, *, style: Style, everything: bool = False) -> list[str]:
    """Totals, one row per part (equal blocks of a run in one row, unless ``everything``), and the notes.

    FLOPs and kept bytes are those of the traced batch.
    """
    origin, measures = document.origin, document.measures
    frozen = sum(entry.num_parameters - entry.num_trainable for entry in measures)
    batch = plural(origin.batch, "sample") + (f" of {origin.sequence_length} tokens" if origin.sequence_length else "")
    lines = [
        style(f"Model {document.model.name}", "bold") + f"  {origin.target}, torch {origin.torch_version}",
        f"  parameters   {count_text(_sum(measures, 'num_parameters'))}"
        + (f", {count_text(frozen)} of them frozen" if frozen else ""),
        f"  forward      {count_text(_sum(measures, 'forward_flops'))}FLOP for {batch}",
    ]
    if document.backward_flops is not None:
        lines.append(f"  backward     {count_text(document.backward_flops)}FLOP")
    lines += [f"  kept         {bytes_text(_sum(measures, 'kept_bytes'))} for the backward pass", ""]
    rows = [_row(group) for group in ([[entry] for entry in measures] if everything else _grouped(measures))]
    header = ["  PART", "CLASS", "PARAMETERS", "FLOPS", "KEPT", "MOVED"]
    hidden = 0 if everything else max(0, len(rows) - _MAX_ROWS)
    title, *body = table(rows[: len(rows) - hidden], header=header, right=frozenset({2, 3, 4, 5}))
    lines += [style(title, "bold"), *body]
    if hidden:
        lines.append(f"  and {plural(hidden, 'more row')}; -o wide shows all")
    return lines


def _row(group: Sequence[PartMeasure]) -> list[str]:
    first = group[0]
    name = first.name if len(group) == 1 else f"{first.name} .. {group[-1].name.rpartition('.')[2]}"
    return [
        f"  {name}",
        first.kind if len(group) == 1 else f"{len(group)} × {first.kind}",
        count_text(_sum(group, "num_parameters")),
        count_text(_sum(group, "forward_flops")),
        bytes_text(_sum(group, "kept_bytes")),
        bytes_text(_sum(group, "bytes_moved")),
    ]


def _grouped(measures: Sequence[PartMeasure]) -> list[list[PartMeasure]]:
    """Neighbours of one run together."""
    groups: list[list[PartMeasure]] = []
    for entry in measures:
        if groups and entry.run is not None and groups[-1][-1].run == entry.run:
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return groups


def _sum(measures: Sequence[PartMeasure], figure: str) -> int:
    return sum(getattr(entry, figure) for entry in measures)
