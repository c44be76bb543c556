"""The command neighbours: what it says first, its table, and what it takes for the same work."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gdm_repr import neighbours
from gdm_repr.latents.neighbours import NearestIndex
from gdm_repr.latents.store import open_store


@pytest.fixture
def run(trained: Path, encoded: Path, tmp_path: Path) -> Callable[..., int]:
    def run(*flags: str) -> int:
        argv = ["--checkpoint", str(trained), "--latents", str(encoded), "--no-track"]
        return neighbours.main([*argv, "--out", str(tmp_path / "out"), *flags])

    return run


def numbers(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "nearest.json").read_text())
    return found


def test_an_image_of_the_store(
    run: Callable[..., int], encoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--items", "3,000007", "--n", "4") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("000003 has no near-duplicate; the nearest is ")
    assert "of the store's own images have as near a neighbour, by a sample of 9" in said[1]
    assert said[2].startswith("  Whether training has seen ")
    store = open_store(encoded)
    for each, row in zip(numbers(tmp_path / "out"), (3, 7), strict=True):
        expected = NearestIndex(store).nearest(store.z([row])[0], n=4, without=row)
        assert each["image"] == store.ids[row]
        assert [band["band"] for band in each["bands"]] == ["0_5", "6_20", "21_63", "all"]
        assert [band["neighbours"] for band in each["bands"]] == [e.ids for e in expected]
    with (tmp_path / "out" / "nearest.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * 4 * 4
    assert [lines[0][key] for key in ("image", "band", "rank", "held_out")] == [
        "000003", "0_5", "1", "",
    ]  # fmt: skip
    with Image.open(tmp_path / "out" / "nearest.png") as sheet:
        assert sheet.width > 5 * 96 and sheet.height > 8 * 96
    assert run("--items", "3,7", "--n", "4") == 0
    assert "finished already" in capsys.readouterr().out
    assert run("--items", "3,8", "--n", "4") == 2
    assert "holds images of other settings (items" in capsys.readouterr().err


def test_the_same_image_by_another_way_is_a_near_duplicate(
    run: Callable[..., int], encoded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--data", "digits", "--items", "5", "--bands", "0_5,all,0-2", "--n", "1") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("000005 is a near-duplicate of 000005, at a distance of ")
    assert first.endswith(" in all latents.")
    (found,) = numbers(tmp_path / "out")
    assert all(band["near_duplicate"] and band["distances"][0] < 1e-3 for band in found["bands"])
    assert open_store(encoded).ids[5] == "000005"


def test_among_the_ids_of_a_file(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ids.txt").write_text("000010\n000020\n000030\n")
    assert run("--items", "000020", "--n", "2", "--ids", str(tmp_path / "ids.txt")) == 0
    (found,) = numbers(tmp_path / "out")
    assert all({*band["neighbours"]} == {"000010", "000030"} for band in found["bands"])
    assert run("--items", "000020", "--n", "2") == 2
    assert "(ids " in capsys.readouterr().err


def test_images_that_can_t_be_read_are_named(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.png").write_bytes(b"none")
    capsys.readouterr()
    assert run("--data", str(tmp_path / "images"), "--items", "a.png,b.png") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--items 'b.png': can't be read" in line
    assert not (tmp_path / "out").exists()
