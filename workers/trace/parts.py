"""Which submodules of a model are its parts.

The root's children are parts. Containers (lists, dicts and sequences of modules) are opened, so that their elements are parts,
and so is a module that has a run of equal blocks inside: a transformer falls into its layers, a residual network into its blocks.
A block of a run is never opened. An opened module that computes or owns something itself is a part beside its children.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from torch import nn

ROOT = "(root)"
_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """``opened``: its children are parts of their own. ``run`` names the run of equal blocks that it belongs to."""

    name: str
    module: nn.Module
    opened: bool
    run: str | None = None


def find_parts(root: nn.Module) -> tuple[Part, ...]:
    """The parts in the order of definition, opened modules before what they hold; a module that stands twice is one part."""
    return tuple(_walk(root, "", run=None, seen=set(), signatures=_Signatures()))


class _Signatures:
    """What makes two modules equal: classes, settings that they print, and shapes of parameters, all the way down."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._numbers: dict[object, int] = {}
        self._has_run: dict[int, bool] = {}

    def of(self, module: nn.Module) -> int:
        """A number that equal modules share."""
        if id(module) not in self._known:
            self._known[id(module)] = -1  # a module that holds itself ends here
            parameters = tuple(
                (name, tuple(p.shape), p.dtype, p.requires_grad) for name, p in module.named_parameters(recurse=False)
            )
            children = tuple((name, self.of(child)) for name, child in module.named_children())
            key = (type(module), _settings(module), parameters, children)
            self._known[id(module)] = self._numbers.setdefault(key, len(self._numbers))
        return self._known[id(module)]

    def runs(self, container: nn.Module) -> dict[str, tuple[int, int]]:
        """First and last position of the run that each child belongs to; only runs of two and more blocks with parameters."""
        found: dict[str, tuple[int, int]] = {}
        children = list(enumerate(container.named_children()))
        for _, group in groupby(children, key=lambda entry: self.of(entry[1][1])):
            members = list(group)
            if len(members) > 1 and _is_block(members[0][1][1]):
                span = (members[0][0], members[-1][0])
                found.update((name, span) for _, (name, _child) in members)
        return found

    def has_run(self, module: nn.Module) -> bool:
        """Whether there is a run of equal blocks in a container of the module, at any depth."""
        if id(module) not in self._has_run:
            self._has_run[id(module)] = False
            own = isinstance(module, _CONTAINERS) and bool(self.runs(module))
            self._has_run[id(module)] = own or any(self.has_run(child) for child in module.children())
        return self._has_run[id(module)]


def _walk(module: nn.Module, name: str, *, run: str | None, seen: set[int], signatures: _Signatures) -> Iterator[Part]:
    seen.add(id(module))
    opened = not name or (run is None and any(True for _ in module.children()) and _opens(module, signatures))
    yield Part(name=name or ROOT, module=module, opened=opened, run=run)
    if not opened:
        return
    runs = signatures.runs(module) if isinstance(module, _CONTAINERS) else {}
    for key, child in module.named_children():
        if id(child) in seen:
            continue
        span = runs.get(key)
        label = f"{name or ROOT}[{span[0]}..{span[1]}]" if span else None
        yield from _walk(child, f"{name}.{key}" if name else key, run=label, seen=seen, signatures=signatures)


def _opens(module: nn.Module, signatures: _Signatures) -> bool:
    return isinstance(module, _CONTAINERS) or signatures.has_run(module)


def _is_block(module: nn.Module) -> bool:
    """Whether equal neighbours of this kind are worth naming: it computes with parameters."""
    return any(True for _ in module.parameters())


def _settings(module: nn.Module) -> str:
    try:
        return str(module.extra_repr())
    except Exception:  # the user's own code, and only a hint here
        return ""
