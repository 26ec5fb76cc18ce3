"""YAML text as plain values, with the line and column of every key and value, for documents that the planner reads itself."""

from __future__ import annotations

from typing import Any

import yaml

from trimtab.errors import Problem, SpecError
from trimtab.spec import Marks

MAX_CHARACTERS = 256 * 1024
MAX_NODES = 50_000
MAX_DEPTH = 16


def read_yaml(text: str, *, source: str) -> tuple[Any, Marks]:
    """The plain values of one YAML document and where each stands; dates stay text. Size, depth and aliases are bounded.

    Raises SpecError for text that is no YAML, is empty or too large, or has a key that is no text or stands twice.
    """
    if len(text) > MAX_CHARACTERS:
        problem = Problem(path="", message=f"larger than {MAX_CHARACTERS // 1024} KiB", allowed="a smaller document")
        raise SpecError([problem], source=source)
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            raise SpecError([Problem(path="", message="the document is empty", line=1, column=1)], source=source)
        reader = _Nodes(loader)
        tree = reader.read(root, "", 0)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (None, None)
        message = f"not YAML: {getattr(error, 'problem', None) or error}"
        raise SpecError([Problem(path="", message=message, line=line, column=column)], source=source) from None
    except _TooMuch as error:
        raise SpecError([Problem(path="", message=str(error), allowed="a smaller document")], source=source) from None
    if reader.problems:
        raise SpecError(reader.problems, source=source)
    return tree, Marks(keys=reader.keys, values=reader.values)


class _TooMuch(Exception):
    """Stops the reading of a document that aliases or nesting make huge."""


class _Nodes:
    """Turns nodes into values and notes their places."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self.keys: dict[str, tuple[int, int]] = {}
        self.values: dict[str, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._loader = loader
        self._num_nodes = 0

    def read(self, node: yaml.Node, path: str, depth: int) -> Any:
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES or depth > MAX_DEPTH:
            raise _TooMuch(f"more than {MAX_NODES} values or {MAX_DEPTH} levels")
        self.values.setdefault(path, _place(node))
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

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, column = _place(key_node)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                self.problems.append(Problem(path=path, message="a key must be plain text", line=line, column=column))
                continue
            key = str(key_node.value)  # as written: YAML 1.1 would read a key 'on' as true
            where = f"{path}.{key}" if path else key
            if key in result:
                message = f"the key stands twice (first on line {self.keys[where][0]})"
                self.problems.append(Problem(path=where, message=message, line=line, column=column))
                continue
            self.keys[where] = (line, column)
            result[key] = self.read(value_node, where, depth + 1)
        return result


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
