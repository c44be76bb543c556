"""The disentanglement command: which labels are factors, and what is told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gdm_repr.analysis.disentanglement import main

QUICK = ["--scores", "mig", "--permutations", "3", "--resamples", "5", "--no-track"]


def run(trained: Path, encoded: Path, out: Path, *more: str) -> int:
    argv = ["--checkpoint", str(trained), "--latents", str(encoded), "--out", str(out)]
    return main([*argv, *QUICK, *more])


def result(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
    return found


def test_every_band_is_scored_beside_the_images_own_coefficients(
    trained: Path, encoded: Path, tmp_path: Path
) -> None:
    assert run(trained, encoded, tmp_path) == 0
    table = result(tmp_path)["tables"]["scores"]
    bands = ["0_5", "6_20", "21_63", "all bands"]
    assert list(dict.fromkeys(table["band"])) == bands
    assert set(table["of"]) == {"latents", "raw coefficients"}
    assert dict(zip(table["band"], table["code length"], strict=True)) == dict(
        zip(bands, (6, 15, 43, 64), strict=True)
    )
    metrics = result(tmp_path)["metrics"][0]["values"]
    assert metrics["disentanglement/mig/0_5"] == table["value"][0]
    assert result(tmp_path)["method"]["factors"] == ["digit"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--factors", "hue"], "--factors 'hue': no label of the store; it has digit"),
        (["--scores", "nosuch"], "--scores 'nosuch': unknown; choose from "),
        (["--circular", "digit=x"], "--circular 'digit=x': the period must be a number above 0"),
        (["--circular", "hue=1"], "--circular 'hue': no label of the store"),
        (
            ["--circular", "digit", "--continuous", "digit"],
            "circular: 'digit' must be one of ['digit'], and said to be one kind only",
        ),
    ],
)
def test_bad_options_are_told_in_one_line(
    more: list[str],
    message: str,
    trained: Path,
    encoded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(trained, encoded, tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
