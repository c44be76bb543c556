"""The examples of docs/, each of which checks its proposition or figure itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_example", DOCS / "examples" / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


def test_the_pages_name_every_example() -> None:
    pages = "".join((DOCS / name).read_text() for name in ("propositions.md", "reproduction.md"))
    for script in (DOCS / "examples").glob("*.py"):
        assert f"python docs/examples/{script.name}" in pages


def test_proposition_3_1(capsys: pytest.CaptureFixture[str]) -> None:
    example("autoregressive.py").main()
    assert "strict GDM - AR, same seed" in capsys.readouterr().out


def test_proposition_3_2(capsys: pytest.CaptureFixture[str]) -> None:
    example("cascade.py").main()
    assert "latents of stage two" in capsys.readouterr().out


def test_proposition_3_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "leakage.png"
    example("leakage.py").main(str(picture))
    assert "strict network" in capsys.readouterr().out
    assert picture.stat().st_size > 0


def test_figure_1a(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "mixture.png"
    example("mixture.py").main(n=500, steps=100, seeds=(0,), out=picture)
    assert "distance to Knothe-Rosenblatt" in capsys.readouterr().out
    assert picture.stat().st_size > 0


def test_figure_12(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "bases.png"
    example("bases.py").main(8, picture)
    assert "refl.-DCT-II" in capsys.readouterr().out
    assert picture.stat().st_size > 0
