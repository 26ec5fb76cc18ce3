"""The user's module, imported and built on meta tensors."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from workers.trace.failure import TraceError, details, out_of_memory, place, said


def load_callable(target: str, folder: Path) -> Any:
    """What the target names. Raises TraceError where there is no such module or name, or where importing it fails."""
    place_text, _, name = target.rpartition(":")
    module = _load_file(folder / place_text) if place_text.endswith(".py") else _load_module(place_text, folder)
    found = getattr(module, name, None)
    if callable(found):
        return found
    names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    problem = f"has no callable '{name}'" if found is None else f"has '{name}', which is a {type(found).__name__}, no callable"
    raise TraceError(f"{place_text} {problem}{hint}")


def build(target: Any, config: Mapping[str, str]) -> tuple[nn.Module, tuple[str, ...]]:
    """The module on meta tensors in training mode, and notes on how it was built.

    Built under ``torch.device("meta")``; where that fails, on the CPU and moved. Raises TraceError where both fail.
    """
    keywords = {key: json.loads(text) for key, text in config.items()}
    notes: tuple[str, ...] = ()
    try:
        made = _make(target, keywords, "meta")
    except BaseException as error:
        made = _on_cpu(target, keywords, error)
        notes = (f"built on the CPU, because building on meta tensors failed: {said(error)}{place(error)}",)
    if not isinstance(made, nn.Module):
        raise TraceError(f"the callable gave a {type(made).__name__}; allowed: a torch.nn.Module, or a callable that gives one")
    to_meta(made)
    return made.train(), notes


def to_meta(module: nn.Module) -> None:
    """Put every parameter and buffer on meta. One that several modules share stays shared, which ``Module.to`` does not keep."""
    known: dict[int, torch.Tensor] = {}
    for owner in module.modules():
        for name, parameter in list(owner._parameters.items()):
            if parameter is None or _stays(parameter):
                continue
            if id(parameter) not in known:
                known[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
            setattr(owner, name, known[id(parameter)])
        for name, buffer in list(owner._buffers.items()):
            if buffer is not None and not buffer.is_meta:
                owner._buffers[name] = known.setdefault(id(buffer), buffer.to("meta"))


def _stays(parameter: nn.Parameter) -> bool:
    """Whether it is on meta already, or has no shape yet."""
    return bool(parameter.is_meta or is_lazy(parameter))


def _make(target: Any, keywords: Mapping[str, Any], device: str) -> Any:
    if isinstance(target, nn.Module):
        return target
    with torch.device(device):
        return target(**keywords)


def _on_cpu(target: Any, keywords: Mapping[str, Any], first: BaseException) -> Any:
    try:
        return _make(target, keywords, "cpu")
    except BaseException as error:
        beside = f" (on meta tensors: {said(first)}{place(first)})" if said(first) != said(error) else ""
        reason = "needs more memory than --memory-limit" if out_of_memory(error) else f"raised {said(error)}"
        raise TraceError(f"building the model {reason}{place(error)}{beside}", details=details(error)) from None


class _Folder(MetaPathFinder):
    """Finds the user's modules in a folder, as Python does for a program that is started there."""

    def __init__(self, folder: Path, *, bare: bool) -> None:
        self._places = [str(folder)]
        self._bare = bare

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """A module or package of the folder, or with ``bare`` a folder that is no package by itself."""
        found = PathFinder.find_spec(fullname, self._places, target) if path is None else None
        return found if found is not None and self._bare == (found.loader is None) else None


def _look_in(folder: Path) -> None:
    """First in the folder; a bare folder of the name of an installed package is only taken where there is no such package."""
    sys.meta_path.insert(0, _Folder(folder, bare=False))
    sys.meta_path.append(_Folder(folder, bare=True))


def _load_module(name: str, folder: Path) -> ModuleType:
    _look_in(folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise TraceError(f"no module '{error.name}' in {folder} nor in this Python ({sys.executable})") from None
        raise _import_error(name, error) from None
    except BaseException as error:
        raise _import_error(name, error) from None


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TraceError(f"no file {path}")
    name = f"traced_{path.stem}"  # a name of its own: the file may be called as a module that is loaded already
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "the name ends in .py"
    assert spec.loader is not None, "a file has a loader"
    _look_in(path.parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        raise _import_error(str(path), error) from None
    return module


def _import_error(name: str, error: BaseException) -> TraceError:
    return TraceError(f"importing {name} raised {said(error)}{place(error)}", details=details(error))
