"""One forward pass on meta tensors, counted part by part, and the backward pass behind it.

FLOPs are those of ``torch.utils.flop_counter`` (matrix products, convolutions and attention; a multiply-add counts as two). Kept
bytes are the storages that autograd still holds when the forward pass has ended, parameters and buffers left out, each counted
once, where it was first saved.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from trimtab.errors import Problem, SpecError
from trimtab.spec.fields import nearest
from trimtab.spec.model_document import TracedInput
from workers.trace.failure import TraceError, details, needs_values, place, said, submodule
from workers.trace.parts import Part

_GATHERS = frozenset(
    packet
    for name in ("embedding", "index_select", "gather", "index")
    if (packet := getattr(torch.ops.aten, name, None)) is not None
)
"""They read as much of their table as they write."""
_WRITES_NOTHING = ("empty", "new_empty", "detach", "_unsafe_view", "sym_")


@dataclass(slots=True, kw_only=True)
class Counted:
    """One pass: figures by name of the part, in the order in which the parts first ran. ``backward_flops`` None: not traced."""

    flops: dict[str, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    tables: set[int] = field(default_factory=set)
    widths: dict[str, int] = field(default_factory=dict)
    backward_flops: int | None = None
    notes: list[str] = field(default_factory=list)


def arguments(module: nn.Module, inputs: Sequence[TracedInput]) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Meta tensors as the module's forward takes them: by name, or in order where it has only ``*args``. Raises SpecError."""
    made = {entry.name: torch.empty(entry.shape, dtype=getattr(torch, entry.dtype), device="meta") for entry in inputs}
    try:
        known = signature(module.forward).parameters
    except (TypeError, ValueError):
        return list(made.values()), {}
    kinds = {entry.kind for entry in known.values()}
    names = [name for name, entry in known.items() if entry.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
    unknown = [name for name in made if name not in names]
    if not unknown or Parameter.VAR_KEYWORD in kinds:
        return [], made
    if Parameter.VAR_POSITIONAL in kinds and not any(name in names for name in made):
        return list(made.values()), {}
    raise SpecError(
        [
            Problem(
                path=f"--input {unknown[0]}",
                message=f"forward of {type(module).__name__} has no input of that name",
                allowed=", ".join(names),
                nearest=nearest(unknown[0], names),
            )
        ]
    )


def count_pass(module: nn.Module, parts: Sequence[Part], inputs: Sequence[TracedInput], *, backward: bool = False) -> Counted:
    """Run the model once. Raises TraceError with the submodule, file and line where its code fails, SpecError on wrong inputs."""
    pass_ = _Pass(module, parts)
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        for handle in pass_.hooks():
            stack.callback(handle.remove)
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pass_.pack, _unpack))
        stack.enter_context(pass_.counter)
        stack.enter_context(pass_.moves)
        output = run_forward(module, inputs)
    counted = pass_.counted()
    if backward:
        _backward(output, counted)
        module.zero_grad(set_to_none=True)
    return counted


def run_forward(module: nn.Module, inputs: Sequence[TracedInput]) -> Any:
    """The output of the module on meta tensors. Raises as ``count_pass``."""
    positional, keywords = arguments(module, inputs)
    try:
        with torch.device("meta"):
            return module(*positional, **keywords)
    except BaseException as error:
        raise _failed(error, module, inputs) from None


class _Kept:
    """What autograd holds instead of a saved tensor: gone when autograd lets go of it."""

    __slots__ = ("__weakref__", "part", "tensor")

    def __init__(self, tensor: torch.Tensor, part: str) -> None:
        self.tensor = tensor
        self.part = part


def _unpack(kept: _Kept) -> torch.Tensor:
    return kept.tensor


class _Pass:
    """The part that runs now, and what is charged to it."""

    def __init__(self, module: nn.Module, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._running: list[str] = [parts[0].name]
        self._charged = 0
        self._flops: dict[str, int] = defaultdict(int)
        self._widths: dict[str, int] = {}
        self._order: dict[str, None] = {}
        self._kept: list[weakref.ref[_Kept]] = []
        self._own = {_storage(tensor) for tensor in (*module.parameters(), *module.buffers())}
        self.counter = FlopCounterMode(display=False)
        self.moves = _Moves(lambda: self._running[-1])

    def hooks(self) -> Iterable[Any]:
        """Handles of the hooks that follow which part runs."""
        for part in self._parts:
            yield part.module.register_forward_pre_hook(self._entering(part.name), prepend=True)
            yield part.module.register_forward_hook(self._leaving(part.name), always_call=True)

    def pack(self, tensor: torch.Tensor) -> _Kept:
        """Hook of autograd for a tensor that it saves."""
        kept = _Kept(tensor, self._running[-1])
        self._kept.append(weakref.ref(kept))
        return kept

    def counted(self) -> Counted:
        """The figures, while the output still holds the graph."""
        self._charge()
        order = list(self._order)
        kept: dict[str, int] = defaultdict(int)
        known = set(self._own)
        for entry in filter(None, (reference() for reference in self._kept)):
            storage = _storage(entry.tensor)
            if storage not in known:
                known.add(storage)
                kept[entry.part] += _num_bytes(entry.tensor)
        return Counted(
            flops=dict(self._flops),
            moved=dict(self.moves.num_bytes),
            kept=dict(kept),
            order=order,
            tables=set(self.moves.tables),
            widths=self._widths,
        )

    def _charge(self) -> None:
        total = int(self.counter.get_total_flops())
        if total > self._charged:
            self._flops[self._running[-1]] += total - self._charged
            self._charged = total

    def _entering(self, name: str) -> Callable[..., None]:
        def enter(_module: nn.Module, _args: object) -> None:
            self._charge()
            self._running.append(name)
            self._order.setdefault(name)

        return enter

    def _leaving(self, name: str) -> Callable[..., None]:
        def leave(_module: nn.Module, _args: object, output: object) -> None:
            self._charge()
            if name in self._running[1:]:
                while self._running.pop() != name:
                    pass
            first = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor) and leaf.dim() > 1), None)
            if first is not None:
                self._widths[name] = first.shape[-1] if first.dim() == 3 else first.shape[1]

        return leave


class _Moves(TorchDispatchMode):
    """Bytes read and written by operators that the FLOP counter does not count, views left out."""

    def __init__(self, part: Callable[[], str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._part = part
        self.num_bytes: dict[str, int] = defaultdict(int)
        self.tables: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and charge it."""
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet is torch.ops.aten.embedding:
            self.tables.add(_storage(args[0]))
        if packet not in flop_registry and not packet.__name__.startswith(_WRITES_NOTHING):
            self.num_bytes[self._part()] += _moved_bytes(func, (args, kwargs), out)
        return out


def _moved_bytes(func: Any, given: Any, out: Any) -> int:
    reads = [leaf for leaf in tree_leaves(given) if isinstance(leaf, torch.Tensor)]
    writes = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
    if not func._schema.is_mutable and {_storage(t) for t in writes} & {_storage(t) for t in reads}:
        return 0  # a view
    written = sum(t.numel() * t.element_size() for t in writes)
    if func._overloadpacket in _GATHERS:
        return 2 * written
    return written + sum(t.numel() * t.element_size() for t in reads)


def _storage(tensor: torch.Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse and other tensors without one storage
        return id(tensor)


def _num_bytes(tensor: torch.Tensor) -> int:
    try:
        return int(tensor.untyped_storage().nbytes())
    except (NotImplementedError, RuntimeError):
        return tensor.numel() * tensor.element_size()


def _backward(output: Any, counted: Counted) -> None:
    """Backward through the sum of the output; where it cannot be traced, a note says why."""
    leaves = [leaf for leaf in tree_leaves(_plain(output)) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    if not leaves:
        counted.notes.append("no output depends on a trainable parameter: nothing is kept for a backward pass")
        return
    try:
        scalar = sum((leaf.real if leaf.is_complex() else leaf).sum() for leaf in leaves)
        assert isinstance(scalar, torch.Tensor)
        with FlopCounterMode(display=False) as counter, torch.device("meta"):
            scalar.backward()
        counted.backward_flops = int(counter.get_total_flops())
    except Exception as error:
        counted.notes.append(f"the backward pass could not be traced: {said(error)}{place(error)}")


def _plain(output: Any) -> Any:
    """Objects that hold their tensors as attributes, as a mapping."""
    return vars(output) if hasattr(output, "__dict__") and not isinstance(output, torch.Tensor | dict) else output


def _failed(error: BaseException, module: nn.Module, inputs: Sequence[TracedInput]) -> TraceError:
    names = {id(child): name for name, child in module.named_modules()}
    where = submodule(error, names) + place(error)
    if needs_values(error):
        said_so = f"forward needs the values of tensors, which tracing does not have (data-dependent control flow),{where}"
    else:
        shapes = ", ".join(f"{entry.name}={'x'.join(map(str, entry.shape))}:{entry.dtype}" for entry in inputs)
        said_so = f"forward with {shapes} failed{where}"
    return TraceError(f"{said_so}: {said(error)}", details=details(error))
