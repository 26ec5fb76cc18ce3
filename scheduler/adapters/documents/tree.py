"""Reads YAML and JSON documents with the line and column of every key and value."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from trimtab.errors import NotFoundError, Problem, SpecError
from trimtab.spec import Marks

MAX_BYTES = 256 * 1024
MAX_NODES = 50_000
MAX_DEPTH = 32


def read_document(path: Path) -> tuple[Any, Marks]:
    """The plain values of a YAML (or JSON) file, and where each stands. Size, depth and aliases are bounded."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise SpecError([Problem(path="", message=f"cannot be read: {error.strerror}")], source=str(path)) from error
    if len(data) > MAX_BYTES:
        problem = Problem(path="", message=f"larger than {MAX_BYTES // 1024} KiB", allowed="a smaller document")
        raise SpecError([problem], source=str(path))
    try:
        return read_text(data.decode("utf-8"), source=str(path))
    except UnicodeDecodeError as error:
        raise SpecError([Problem(path="", message=f"not UTF-8 text: {error.reason}")], source=str(path)) from error


def read_text(text: str, *, source: str | None = None) -> tuple[Any, Marks]:
    """As ``read_document``, from text."""
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:
        raise SpecError([Problem(path="", message=f"not YAML: {error}")], source=source) from error
    try:
        root = loader.get_single_node()
        if root is None:
            raise SpecError([Problem(path="", message="the document is empty", line=1, column=1)], source=source)
        reader = _NodeReader(loader, source)
        tree = reader.read(root, "", 0)
        return tree, Marks(keys=reader.keys, values=reader.values)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        message = f"not YAML: {error.problem or error.context}"
        raise SpecError([Problem(path="", message=message, line=line, column=column)], source=source) from error
    except yaml.YAMLError as error:
        raise SpecError([Problem(path="", message=f"not YAML: {error}")], source=source) from error
    finally:
        loader.dispose()


class _NodeReader:
    """Turns YAML nodes into plain values and notes their places."""

    def __init__(self, loader: yaml.SafeLoader, source: str | None) -> None:
        self.keys: dict[str, tuple[int, int]] = {}
        self.values: dict[str, tuple[int, int]] = {}
        self._loader = loader
        self._source = source
        self._num_nodes = 0

    def read(self, node: yaml.Node, path: str, depth: int) -> Any:
        self._num_nodes += 1
        mark = (node.start_mark.line + 1, node.start_mark.column + 1)
        if self._num_nodes > MAX_NODES or depth > MAX_DEPTH:
            self._fail(path, f"more than {MAX_NODES} values or {MAX_DEPTH} levels", mark)
        self.values.setdefault(path, mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)]
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value  # a date stays text: the schema says what a date looks like
        try:
            return self._loader.construct_object(node)
        except (ValueError, OverflowError):
            return node.value  # looks like a number or a flag and is none: the schema refuses the text

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[Hashable, Any]:
        result: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            mark = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                self._fail(path, "a key must be plain text", mark)
            key = key_node.value  # as written: YAML 1.1 would read a key 'on' as true
            where = f"{path}.{key}" if path else key
            if key in result:
                line = self.keys[where][0]
                self._fail(where, f"the key stands twice (first on line {line})", mark)
            self.keys[where] = mark
            result[key] = self.read(value_node, where, depth + 1)
        return result

    def _fail(self, path: str, message: str, mark: tuple[int, int]) -> None:
        raise SpecError([Problem(path=path, message=message, line=mark[0], column=mark[1])], source=self._source)
