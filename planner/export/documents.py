"""Texts of exports: TOML, YAML, JSON and the start script. Only what exports need of each language."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from planner.export.types import NODE_RANK, ExportFile, Launch

_PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
MADE_BY = "Made by trimtab export."


def to_json(tree: Mapping[str, Any]) -> str:
    """A tree of plain values as indented JSON."""
    return json.dumps(tree, indent=2, allow_nan=False) + "\n"


def to_toml(tree: Mapping[str, Any]) -> str:
    """A tree of tables as TOML (1.0): a table of keys for every mapping that holds plain values; None is left out."""
    lines = [f"# {MADE_BY}"]
    _toml_table(tree, (), lines)
    return "\n".join(lines) + "\n"


def _toml_table(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping) and value is not None}
    if path and plain:
        lines += ["", f"[{'.'.join(path)}]"]
    lines += [f"{key} = {_value(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            _toml_table(value, (*path, key), lines)


def to_yaml(tree: Mapping[str, Any], *, comment: str = MADE_BY) -> str:
    """A tree of plain values as YAML (1.1 and 1.2): block mappings, everything else as JSON, which is valid YAML."""
    lines = [f"# {comment}"]
    _yaml_mapping(tree, 0, lines)
    return "\n".join(lines) + "\n"


def _yaml_mapping(tree: Mapping[str, Any], depth: int, lines: list[str]) -> None:
    for key, value in tree.items():
        plain = _PLAIN_KEY.fullmatch(key) and key.lower() not in _YAML_WORDS
        head = "  " * depth + (key if plain else _value(key))
        if isinstance(value, Mapping) and value:
            lines.append(f"{head}:")
            _yaml_mapping(value, depth + 1, lines)
        else:
            lines.append(f"{head}: {_value(value) if not isinstance(value, Mapping) else '{}'}")


def _value(value: Any) -> str:
    """A scalar or a list as JSON that TOML and YAML read alike: they know no surrogates, and one of them no bare DEL."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if not isinstance(value, str):
        text = json.dumps(value, allow_nan=False)
        # YAML 1.1 reads a number with an exponent as one only where it has a point.
        return text.replace("e", ".0e", 1) if isinstance(value, float) and "e" in text and "." not in text else text
    parts = (f"\\U{ord(c):08x}" if ord(c) > 0xFFFF or c == "\x7f" else json.dumps(c)[1:-1] for c in value)
    return f'"{"".join(parts)}"'


def start_script(launch: Launch, num_nodes: int) -> ExportFile:
    """``start.sh``: sets the variables and starts the part of the node whose number is its argument."""
    words = " ".join(f'"{part}"' if part == NODE_RANK else shlex.quote(part) for part in launch.argv)
    last = f"0 to {num_nodes - 1}" if num_nodes > 1 else "0"
    lines = [
        "#!/bin/sh",
        f"# {MADE_BY} Run it on every node with the number of that node ({last}): sh start.sh 0",
        "set -eu",
        'cd "$(dirname "$0")"',
        "NODE_RANK=${1:-0}" if num_nodes == 1 else "NODE_RANK=${1:?the number of this node}",
        *(f"export {name}={shlex.quote(value)}" for name, value in launch.environment.items()),
        f"exec {words}",
    ]
    return ExportFile(name="start.sh", text="\n".join(lines) + "\n")


def torchrun(shape_nodes: int, devices: int, *, address: str, port: int) -> tuple[str, ...]:
    """torchrun's own part of a command line, up to the program."""
    where = ("--master-addr", address, "--master-port", str(port))
    return ("torchrun", "--nnodes", str(shape_nodes), "--nproc-per-node", str(devices), "--node-rank", NODE_RANK, *where)
