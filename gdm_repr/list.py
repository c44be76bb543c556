"""What can be chosen by name, with a line each: ``gdm-repr list [KIND]``.

The names stand in registries, the lines are the docstrings of what these name. Both are read from
the source rather than imported, which would take as long as starting torch does.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from gdm_repr.boundary.streams import sturdy_streams

_ROOT = Path(__file__).parent


class Registry(NamedTuple):
    """Where names of one kind stand, and the option that takes them."""

    option: str
    module: str
    name: str


KINDS = {
    "sources": Registry("--data NAME", "gdm_repr.data.sources.registry", "BUILT_IN"),
    "files": Registry("--data PATH, by suffix", "gdm_repr.data.sources.registry", "BY_SUFFIX"),
    "bases": Registry("model.basis.name", "gdm_repr.basis", "BASES"),
    "groupings": Registry("model.grouping.name", "gdm_repr.grouping", "STRATEGIES"),
    "networks": Registry("model.network.name", "gdm_repr.models", "NETWORKS"),
    "solvers": Registry("--solver", "gdm_repr.solvers", "SOLVERS"),
    "coordinates": Registry("--coordinate", "gdm_repr.coordinates", "COORDINATES"),
    "edits": Registry("gdm-repr edit NAME", "gdm_repr.edit.sheets", "KINDS"),
    "analyses": Registry("gdm-repr analyse NAME", "gdm_repr.analysis.runner", "ANALYSES"),
    "extractors": Registry("--features", "gdm_repr.analysis.features.extractors", "EXTRACTORS"),
    "scores": Registry("--scores", "gdm_repr.analysis.disentanglement.scores", "SCORES"),
}


def rows(kind: str) -> list[tuple[str, str]]:
    """Return the names of a kind, each with its line; a key of :data:`KINDS`.

    >>> [name for name, _ in rows("bases")]
    ['identity', 'dct', 'blur']
    """
    registry = KINDS[kind]
    for node in _tree(registry.module).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        named = any(isinstance(each, ast.Name) and each.id == registry.name for each in targets)
        if named and isinstance(node, ast.Assign | ast.AnnAssign):
            assert isinstance(node.value, ast.Dict)
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return [(_text(key), _line(registry.module, value)) for key, value in pairs]
    raise AssertionError(f"{registry.module} has no {registry.name}")


def listing(kinds: Sequence[str]) -> str:
    """Return the text of the command for some kinds."""
    found = {kind: rows(kind) for kind in kinds}
    width = max(len(name) for names in found.values() for name, _ in names)
    blocks = []
    for kind, names in found.items():
        lines = [f"  {name:<{width}}  {line}".rstrip() for name, line in names]
        blocks.append("\n".join([f"{kind} ({KINDS[kind].option})", *lines]))
    return "\n\n".join(blocks)


@cache
def _tree(module: str) -> ast.Module:
    path = _ROOT.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _text(node: ast.expr | None) -> str:
    assert isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value


def _line(module: str, value: ast.expr) -> str:
    """Return the first line of the docstring of what a value of a registry names first."""
    if isinstance(value, ast.Constant):
        return _text(value)
    for name in _names(value):
        if line := _docstring(module, name):
            return line
    return ""


def _names(value: ast.expr) -> Iterator[str]:
    """Yield what a value names: ``heun``, and of ``Solver(2, step=heun)`` what is given."""
    if isinstance(value, ast.Name):
        yield value.id
    elif isinstance(value, ast.Call):
        for given in [*value.args, *(keyword.value for keyword in value.keywords)]:
            yield from _names(given)


def _docstring(module: str, name: str) -> str:
    for node in _tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            line = (ast.get_docstring(node) or "").partition("\n")[0]
            return re.sub(r":\w+:(?=`)", "", line).replace("``", "`")
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gdm_repr"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _docstring(node.module, alias.name)
    return ""


@sturdy_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr list``."""
    parser = argparse.ArgumentParser(
        "gdm-repr list", description="List what can be chosen by name, with a line each."
    )
    parser.add_argument(
        "kind", nargs="?", metavar="KIND", help=f"one of {', '.join(KINDS)}; all by default"
    )
    kind = parser.parse_args(argv).kind
    if kind is not None and kind not in KINDS:
        print(
            f"gdm-repr list: error: no {kind!r}; KIND is one of {', '.join(KINDS)}", file=sys.stderr
        )
        return 2
    print(listing([kind] if kind else list(KINDS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
