"""What stands for the keys that a ``config.json`` leaves out: the defaults of the configuration classes in ``transformers``.

``defaults.json`` beside this module holds them for every model type that is read, with the other names of keys, as
``tools/write_model_defaults.py`` found them in the release that it names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("defaults.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A nested configuration: the type that it has where it names none, or (``fixed``) in any case; ``values`` stand for it
    where it is left out as a whole."""

    model_type: str
    fixed: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """One configuration class. ``aliases`` maps another name of a key to the key, ``children`` are the nested ones.
    ``classes`` are the models of that type that the reader knows and transformers has."""

    values: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    children: Mapping[str, Child] = field(default_factory=dict)
    classes: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def _contents() -> Mapping[str, Any]:
    contents: Mapping[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return contents


def release() -> str:
    """The release of transformers that the defaults come from."""
    return str(_contents()["release"])


@lru_cache(maxsize=1024)
def defaults_of(model_type: str) -> Defaults:
    """Defaults of one model type; none where it has no entry."""
    entry = _contents()["model_types"].get(model_type, {})
    return Defaults(
        values=entry.get("values", {}),
        aliases=entry.get("aliases", {}),
        classes=tuple(entry.get("classes", ())),
        children={key: Child(**child) for key, child in entry.get("children", {}).items()},
    )
