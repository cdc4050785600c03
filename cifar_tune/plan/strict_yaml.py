"""YAML read strictly: plain values, each key once, no tags, no bombs, lines for errors.

What is written for that reader comes back as it was.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from cifar_tune.errors import MOST_TOLD, PlanError, one_line

MAX_BYTES = 1_000_000  # a plan is one page; a dump of a plan some kilobytes
MAX_NODES = 20_000  # counted after aliases are expanded
MAX_DEPTH = 20

Path_ = tuple[str | int, ...]
Lines = dict[Path_, int]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the words of YAML 1.2: `no` is a word and 1e-3 is a number."""

    composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node; PyYAML takes seconds over what would be refused for its size anyway."""
        self.composed += 1
        if self.composed > MAX_NODES:
            raise yaml.YAMLError(f"more than {MAX_NODES:,} values")
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), list("tf"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789")
)
_FLOAT = (
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]+)?$|^[-+]?\.inf$|^\.nan$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(*_FLOAT)
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")}


class _Dumper(yaml.SafeDumper):
    """Quotes a text that is a number to `_Loader` alone, such as 1e-3, with those of YAML 1.1."""


_Dumper.add_implicit_resolver(*_FLOAT)


def dump(value: Any) -> str:
    """YAML that `parse_yaml` reads back to an equal value."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def parse_yaml(text: str, where: str) -> tuple[Any, Lines]:
    """Parse one YAML document, which errors call `where`: a file's path, or a flag.

    Returns:
        The value (dicts, lists, str, int, float, bool, None) and, for each path into it, the line
        (from 1) on which it stands.

    Raises:
        PlanError: not YAML, a duplicate key, a tag, an alias bomb, too large or too deep.
    """
    if len(text) > MAX_BYTES:
        raise PlanError(f"{where}: {len(text):,} characters; a plan has at most {MAX_BYTES:,}")
    try:
        node = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise PlanError(f"{where}: not valid YAML: {one_line(error)}") from None
    reader = _Reader(where)
    return (None if node is None else reader.value(node, (), 0)), reader.lines


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """`parse_yaml` of a file, which a PlanError names also where it can't be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: can't be read: {error}") from None
    return parse_yaml(text, str(path))


class _Reader:
    def __init__(self, where: str) -> None:
        self.where = where
        self.lines: Lines = {}
        self.count = 0
        self.constructor = yaml.SafeLoader("")

    def value(self, node: yaml.Node, path: Path_, depth: int) -> Any:
        self.count += 1
        line = node.start_mark.line + 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            raise PlanError(
                f"{self.where}:{line}: more than {MAX_NODES:,} values or {MAX_DEPTH} levels once"
                " aliases are expanded; write it out plainly"
            )
        self.lines[path] = line
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            items = enumerate(node.value)
            return [self.value(item, (*path, index), depth + 1) for index, item in items]
        if node.tag not in _PLAIN:
            raise PlanError(
                f"{self.where}:{line}: tag {node.tag[:MOST_TOLD]}; plans hold plain values only"
            )
        try:
            return self.constructor.construct_object(node)
        except (ValueError, yaml.YAMLError) as error:
            raise PlanError(f"{self.where}:{line}: {one_line(error)}") from None

    def _mapping(self, node: yaml.MappingNode, path: Path_, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag != "tag:yaml.org,2002:str":
                raise PlanError(
                    f"{self.where}:{line}: key {key_node.value!r}; keys are plain words"
                )
            key = key_node.value
            if key in result:
                raise PlanError(f"{self.where}:{line}: key {key!r} stands here twice; keep one")
            result[key] = self.value(value_node, (*path, key), depth + 1)
            self.lines[(*path, key)] = line
        return result
