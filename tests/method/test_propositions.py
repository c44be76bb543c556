"""The examples of docs/, each of which checks its proposition or figure itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


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


def test_table_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = example("table2.py")
    lines = [f"choice,seed,{script.METRIC}"]
    for seed in (0, 1):
        for row, training in enumerate(script.TRAINING):
            for column, generation in enumerate(script.GENERATION):
                value = script.PAPER[row][column] + seed
                lines.append(f'"{training}, {generation}",{seed},{value}')
    (tmp_path / "runs.csv").write_text("\n".join(lines) + "\n")
    script.main(tmp_path, tmp_path / "table2.png")
    told = capsys.readouterr().out
    assert "rank correlation with the paper's cells: 1 [1, 1]" in told
    ours, papers = (line.split(": ")[1] for line in told.splitlines() if "seed 0 alone" in line)
    assert f"the paper's: {ours}" in told and f"the paper's: {papers}" in told
    (tmp_path / "runs.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"no cell '0\.7 0\.8 0\.9, 0\.1 0\.2 0\.5', seed 1"):
        script.main(tmp_path, tmp_path / "table2.png")
