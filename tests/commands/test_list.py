"""``gdm-repr list``: every name of every registry, with a line, though nothing is imported."""

import importlib

import pytest

from gdm_repr import cli
from gdm_repr.list import KINDS, rows


@pytest.mark.parametrize("kind", KINDS)
def test_all_names_are_listed_with_a_line(kind: str) -> None:
    registry = KINDS[kind]
    names = getattr(importlib.import_module(registry.module), registry.name)
    found = rows(kind)
    assert [name for name, _ in found] == list(names)
    assert all(line and "\n" not in line for _, line in found)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "groupings"]) == 0
    shown = capsys.readouterr().out
    assert "groupings (model.grouping.name)" in shown and "  bands " in shown
    assert "sources" not in shown
    assert cli.main(["list"]) == 0
    assert "torchvision" in capsys.readouterr().out
    assert cli.main(["list", "cuts"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'cuts'" in line and "groupings" in line
