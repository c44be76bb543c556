"""Read a YAML file of options: plain data, of bounded size, every key once.

What YAML can do beyond that is refused: tags, keys that are no text, and aliases by which a few
hundred bytes would stand for millions of values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gdm_repr.files import read_bytes

MOST_BYTES = 1 << 20  # of a file of options
MOST_DEPTH = 60  # of nested lists and mappings
MOST_VALUES = 100_000  # once aliases are written out
MOST_DIGITS = 400  # of a number
_PLAIN = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge", "timestamp")
)
_MERGE = "tag:yaml.org,2002:merge"
_TEXT = "tag:yaml.org,2002:str"
_SHOWN = 60  # characters of what is wrong


class _Refused(Exception):
    """What is wrong, and the line it is on, counted from 0."""

    def __init__(self, problem: str, node: yaml.Node) -> None:
        super().__init__(f"line {node.start_mark.line + 1}: {problem}")


class _Loader(yaml.SafeLoader):
    """A SafeLoader that stops at what no file of options needs."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.values: dict[int, int] = {}  # of each node, by its identity

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, and count the values it stands for."""
        alias = self.check_event(yaml.AliasEvent)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if node is None:
            return None
        if id(node) not in self.values:
            if alias:  # not yet whole
                raise _Refused("an alias stands inside what it names; write the values out", node)
            self.values[id(node)] = self._count(node)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401
        self._bound_depth()
        node = super().compose_mapping_node(anchor)
        self._check_keys(node)
        return node

    def compose_sequence_node(self, anchor: Any) -> yaml.SequenceNode:  # noqa: ANN401
        self._bound_depth()
        return super().compose_sequence_node(anchor)

    def _bound_depth(self) -> None:
        if self.depth > MOST_DEPTH:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise _Refused(f"is nested deeper than {MOST_DEPTH} levels; write it flatter", event)

    def _count(self, node: yaml.Node) -> int:
        """Count a node's values, its parts having been counted."""
        if node.tag not in _PLAIN:
            raise _Refused(f"the tag {node.tag[:_SHOWN]!r} is not read; write plain values", node)
        if isinstance(node, yaml.ScalarNode):
            number = node.tag.endswith((":int", ":float"))
            if number and len(node.value) > MOST_DIGITS:
                raise _Refused(
                    f"a number of {len(node.value)} characters; at most {MOST_DIGITS}", node
                )
            return 1
        parts = node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        count = 1 + sum(self.values[id(part)] for part in parts)
        if count > MOST_VALUES:
            raise _Refused(
                f"stands for more than {MOST_VALUES} values, with its aliases; write fewer", node
            )
        return count

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key, _ in node.value:
            if key.tag not in (_TEXT, _MERGE):
                shown = key.value[:_SHOWN] if isinstance(key, yaml.ScalarNode) else "[..]"
                raise _Refused(f"the key {shown} is no text; put it in quotes", key)
            if key.value in seen:
                raise _Refused(f"the key {key.value[:_SHOWN]!r} stands here twice; keep one", key)
            seen.add(key.value)


def read_yaml(path: Path, option: str = "--config") -> dict[str, Any]:
    """Read a YAML file of options.

    Args:
        path: the file, of at most 1 MiB.
        option: that named it, for errors.

    Raises:
        ValueError: if it is no YAML mapping, is larger than such a file is, or holds a key twice or
            one that is no text; the message names the file and the line.
    """
    where = f"{option} {path}"
    data = read_bytes(path, option, most=MOST_BYTES)
    try:
        loader = _Loader(data.decode("utf-8-sig"))
        try:
            values = loader.get_single_data()
        finally:
            loader.dispose()
    except _Refused as error:
        raise ValueError(f"{where}: not readable as YAML ({error})") from None
    # dates such as 2024-13-45 raise what the calendar raises
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, RecursionError) as error:
        detail = " ".join(str(error).split())[:300]
        raise ValueError(f"{where}: not readable as YAML ({detail})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{where}: must hold 'option: value' lines, not {type(values).__name__}")
    return values
