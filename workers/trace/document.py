"""The document of a traced model: parts, figures and origin."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from trimtab.model import ModelFamily, ModelSpec, PartSpec, PositionKind
from trimtab.spec.model_document import MAX_PARTS, VERSION, ModelDocument, ModelOrigin, PartMeasure
from workers.trace.failure import TraceError
from workers.trace.figures import Growth, Passes, batch_note, growth, run_passes, shortened, square_note
from workers.trace.measure import Counted, run_forward
from workers.trace.parts import ROOT, Part, find_parts
from workers.trace.request import TraceRequest

TOOL = "trimtab trace"
_MAX_WIDTH = 10**7


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """How FLOPs and kept bytes of one sample grow with the length, for one part."""

    flops: Growth
    kept: Growth


def trace(module: nn.Module, request: TraceRequest, *, notes: Sequence[str] = ()) -> ModelDocument:
    """Trace a module on meta tensors as the request asks. Raises TraceError where its code fails, SpecError on wrong inputs."""
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        run_forward(module, request.inputs)  # gives lazy parameters their shapes
    parts = find_parts(module)
    passes = run_passes(module, parts, request.inputs, batch=request.batch, sequence_length=request.sequence_length)
    owned = own_parameters(parts)
    shown = _in_order(parts, passes.main, owned)
    if not 1 <= len(shown) <= MAX_PARTS:
        raise TraceError(f"the model falls into {len(shown)} parts that compute or own something; allowed: 1 to {MAX_PARTS}")
    element_bytes = _element_bytes(module)
    grown = {
        part.name: Grown(flops=_growth(part, passes, "flops", request), kept=_growth(part, passes, "kept", request))
        for part in shown
    }
    found = (*notes, *passes.notes, *_growth_notes(passes, request, grown), *_parameter_notes(module, parts, passes.main, owned))
    specs = tuple(
        _part(part, owned[part.name], grown[part.name], request=request, tables=passes.main.tables, element_bytes=element_bytes)
        for part in shown
    )
    return ModelDocument(
        version=VERSION,
        origin=_origin(request, shortened(found)),
        model=_model(request, specs, width=_width(shown, passes.main)),
        measures=tuple(_measure(part, owned[part.name], grown[part.name], passes.main, request) for part in shown),
        element_bytes=element_bytes,
        backward_flops=passes.main.backward_flops,
    )


def own_parameters(parts: Sequence[Part]) -> dict[str, tuple[nn.Parameter, ...]]:
    """The parameters of each part by its name; one that several parts share belongs to the first."""
    known: set[int] = set()
    owned = {}
    for part in parts:
        found = [p for p in part.module.parameters(recurse=not part.opened) if id(p) not in known]
        known.update(id(p) for p in found)
        owned[part.name] = tuple(found)
    return owned


def _in_order(parts: Sequence[Part], counted: Counted, owned: Mapping[str, Sequence[nn.Parameter]]) -> list[Part]:
    """Parts in the order in which they first ran, those that never did behind them; those without any figure left out."""
    position = {name: index for index, name in enumerate(counted.order)}
    figures = (counted.flops, counted.moved, counted.kept)
    useful = [part for part in parts if owned[part.name] or any(figure.get(part.name) for figure in figures)]
    return sorted(useful, key=lambda part: position.get(part.name, len(position)))


def _growth(part: Part, passes: Passes, figure: str, request: TraceRequest) -> Growth:
    value: int = getattr(passes.main, figure).get(part.name, 0)
    if request.sequence_length is None:
        return Growth(fixed=Fraction(value, request.batch), linear=Fraction(0), square=Fraction(0))
    at = {length: getattr(counted, figure).get(part.name, 0) for length, counted in passes.shorter.items()}
    return growth({**at, request.sequence_length: value}, batch=request.batch)


def _part(
    part: Part,
    parameters: Sequence[nn.Parameter],
    grown: Grown,
    *,
    request: TraceRequest,
    tables: set[int],
    element_bytes: int,
) -> PartSpec:
    length = request.sequence_length or 0
    matrices = sum(p.numel() for p in parameters if p.dim() > 1 and p.untyped_storage()._cdata not in tables)
    total = sum(p.numel() for p in parameters)
    return PartSpec(
        name=part.name,
        num_parameters=total,
        flops_per_token=float(grown.flops.linear + grown.flops.square * length),
        flops_per_sample=float(grown.flops.fixed),
        activations_per_token=float((grown.kept.linear + grown.kept.square * length) / element_bytes),
        activations_per_sample=float(grown.kept.fixed / element_bytes),
        is_matrix=2 * matrices >= total > 0,
    )


def _measure(
    part: Part, parameters: Sequence[nn.Parameter], grown: Grown, counted: Counted, request: TraceRequest
) -> PartMeasure:
    length = request.sequence_length or 0
    return PartMeasure(
        name=part.name,
        kind=type(part.module).__qualname__,
        num_parameters=sum(p.numel() for p in parameters),
        num_trainable=sum(p.numel() for p in parameters if p.requires_grad),
        forward_flops=counted.flops.get(part.name, 0),
        bytes_moved=counted.moved.get(part.name, 0),
        kept_bytes=counted.kept.get(part.name, 0),
        square_flops=float(grown.flops.square * request.batch * length * length),
        run=part.run,
    )


def _model(request: TraceRequest, parts: tuple[PartSpec, ...], *, width: int) -> ModelSpec:
    """A model of parts alone: nothing says that its blocks are the transformer layers that stacks are made of."""
    return ModelSpec(
        name=request.name,
        family=ModelFamily.CONVOLUTIONAL,
        hidden_size=width,
        vocab_size=0,
        stacks=(),
        position=PositionKind.NONE,
        max_positions=request.sequence_length or 1,
        tied_embeddings=False,
        has_head=False,
        parts=parts,
    )


def _origin(request: TraceRequest, notes: tuple[str, ...]) -> ModelOrigin:
    return ModelOrigin(
        tool=TOOL,
        target=request.target,
        config=request.config,
        torch_version=torch.__version__,
        python_version=platform.python_version(),
        inputs=request.inputs,
        batch=request.batch,
        sequence_length=request.sequence_length,
        device=request.device,
        notes=notes,
    )


def _growth_notes(passes: Passes, request: TraceRequest, grown: Mapping[str, Grown]) -> list[str]:
    found: list[str | None] = []
    if passes.doubled is not None:
        found.append(batch_note("FLOPs", passes.main.flops, passes.doubled.flops, batch=request.batch))
        found.append(batch_note("kept bytes", passes.main.kept, passes.doubled.kept, batch=request.batch))
    if request.sequence_length is not None:
        at = {"length": request.sequence_length, "batch": request.batch}
        flops, kept = [g.flops.square for g in grown.values()], [g.kept.square for g in grown.values()]
        found.append(square_note("FLOPs", flops, sum(passes.main.flops.values()), **at))
        found.append(square_note("kept bytes", kept, sum(passes.main.kept.values()), **at))
    return [note for note in found if note is not None]


def _parameter_notes(
    module: nn.Module, parts: Sequence[Part], counted: Counted, owned: Mapping[str, Sequence[nn.Parameter]]
) -> list[str]:
    notes = []
    every = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    once = {name for name, _ in module.named_parameters()}
    shared = [name for name in every if name not in once]
    if shared:
        notes.append(f"{_some(shared)}: shared parameters, counted where they stand first")
    silent = [part.name for part in parts if owned[part.name] and part.name not in counted.order and not _is_container(part)]
    if silent:
        notes.append(f"{_some(silent)}: forward never calls it; what it computes is charged to the module that uses it")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _is_container(part: Part) -> bool:
    return isinstance(part.module, nn.ModuleList | nn.ModuleDict | nn.ParameterList | nn.ParameterDict)


def _element_bytes(module: nn.Module) -> int:
    """Bytes of the type that most parameters have."""
    sizes: Counter[int] = Counter()
    for parameter in module.parameters():
        sizes[parameter.element_size()] += parameter.numel()
    return max(sizes, key=lambda size: sizes[size]) if sizes else 4


def _width(parts: Sequence[Part], counted: Counted) -> int:
    """Width of what the blocks of the longest run hand on; without one, of the model's output."""
    runs = Counter(part.run for part in parts if part.run is not None)
    longest = max(runs, key=lambda run: runs[run]) if runs else None
    names = [part.name for part in parts if part.run == longest] if longest else []
    widths = [counted.widths[name] for name in (*names, ROOT) if name in counted.widths]
    return min(max(widths[0], 1), _MAX_WIDTH) if widths else 1
