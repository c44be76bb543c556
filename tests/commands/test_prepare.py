"""The command prepare: the same pixels and labels as the data it was made of, whatever happens."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gdm_repr import prepare
from gdm_repr.data.dataset import Batch
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data

ROOT = Path(__file__).parents[2]


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    """Colour and gray images of many sizes and suffixes in sub-folders, and one that is none."""
    random, folder = np.random.default_rng(0), tmp_path / "wild"
    for i, name in enumerate(
        ["cat/1.png", "cat/10.bmp", "cat/2.webp", "dog/.5.x.tif", "dog/a.png"]
    ):
        path = folder / name.replace("/.5", "/5")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (20 + i, 30 - 3 * i, 3), dtype=np.uint8)
        Image.fromarray(pixels[..., 0] if i == 2 else pixels).save(path)
    (folder / "dog" / "torn.jpg").write_bytes(b"no picture")
    return folder


def prepared(data: str | Path, out: Path, *flags: str) -> Path:
    argv = ["--data", str(data), "--out", str(out), "--workers", "0", *flags]
    assert prepare.main(argv) == 0
    return out


def everything(
    data: str | Path, how: Preprocess, labels: Path | None = None, limit: int | None = None
) -> Batch:
    dataset = open_data(data, how, labels=labels, limit=limit)
    return dataset.batch(range(len(dataset)))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert prepare.main([*argv, "--workers", "0"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("flags", "how"),
    [
        (["--size", "12"], Preprocess(size=12)),
        (["--size", "9,14", "--fit", "resize"], Preprocess(size=(9, 14), fit="resize")),
        (["--size", "8", "--channels", "gray"], Preprocess(size=8, channels="gray")),
        (["--size", "8", "--fit", "tile"], Preprocess(size=8, fit="tile")),
    ],
)
def test_the_pixels_are_those_of_the_data(
    wild: Path, tmp_path: Path, flags: list[str], how: Preprocess
) -> None:
    out = prepared(wild, tmp_path / "out", *flags)
    direct, again = everything(wild, how), everything(out, Preprocess())
    assert again.rejected == []
    assert torch.equal(again.x, direct.x)
    assert again.labels == direct.labels  # by sub-folder
    assert again.ids == prepare.png_paths(direct.ids)
    labelled = everything(out, Preprocess(), labels=out / "labels.csv")
    assert labelled.labels == direct.labels


def test_sixteen_bits_of_gray_are_kept(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 65536, (3, 10, 10), dtype=np.uint16)
    np.save(tmp_path / "deep.npy", levels)
    out = prepared(tmp_path / "deep.npy", tmp_path / "out", "--size", "7")
    direct = everything(tmp_path / "deep.npy", Preprocess(size=7))
    dataset = open_data(out, Preprocess())
    assert dataset.levels == 65535
    assert torch.equal(dataset.batch(range(3)).x, direct.x)


def test_labels_of_all_kinds_come_back(tmp_path: Path) -> None:
    out = prepared("scenes:7-27", tmp_path / "out", "--size", "16", "--limit", "12")
    direct = everything("scenes:7-27", Preprocess(size=16), limit=12)
    again = everything(out, Preprocess(), labels=out / "labels.csv")
    assert torch.equal(again.x, direct.x)
    assert again.labels == direct.labels
    assert {type(column[0]) for column in direct.labels.values()} == {float, str}


def test_given_labels_with_gaps_and_quotes_come_back(wild: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.csv"
    given.write_text('file,mood,age\ncat/1.png,"calm, ""so""",3\na.png,,4\ntorn.jpg,grim,\n')
    out = prepared(wild, tmp_path / "out", "--size", "8", "--labels", str(given))
    again = everything(out, Preprocess(), labels=out / "labels.csv")
    direct = everything(wild, Preprocess(size=8), labels=given)
    assert again.labels == direct.labels
    assert direct.labels["mood"].count(None) == 4
    assert set(direct.labels) == {"label", "mood", "age"}


def test_what_can_not_be_read_is_listed_as_in_a_store(wild: Path, tmp_path: Path) -> None:
    out = prepared(wild, tmp_path / "out", "--size", "8")
    (bad,) = everything(wild, Preprocess(size=8)).rejected
    line = {"index": bad.index, "id": "dog/torn.jpg", "reason": bad.reason}
    assert rows(out / "quarantine.jsonl") == [line]
    facts = json.loads((out / "prepared.json").read_text())
    assert (facts["items"], facts["images"], facts["quarantined"]) == (6, 5, 1)
    assert "torn" not in (out / "labels.csv").read_text()


def test_what_is_there_is_not_made_again(
    wild: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = prepared(wild, tmp_path / "out", "--size", "8")
    whole = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    kept, empty, gone = (out / name for name in ("cat/1.png", "cat/2.png", "dog/a.png"))
    Image.new("RGB", (8, 8), "red").save(kept)
    empty.write_bytes(b"")
    gone.unlink()
    for name in ("quarantine.jsonl", "labels.csv"):
        (out / name).unlink()
    (out / "cat" / ".1.png.7.ab.tmp").write_bytes(b"left by a killed job")
    capsys.readouterr()
    prepared(wild, out, "--size", "8")
    assert "resuming: 3 of 6 images are there" in capsys.readouterr().err
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert after.keys() == whole.keys()
    assert [path for path in whole if whole[path] != after[path]] == [kept]


def test_a_killed_job_goes_on(tmp_path: Path) -> None:
    out, argv = tmp_path / "out", ["--data", "scenes:0-400", "--size", "16", "--workers", "0"]
    command = [sys.executable, "-m", "gdm_repr.prepare", *argv, "--out", str(out)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as job:
        assert job.stderr is not None
        while not (out / "000031.png").exists():
            assert job.stderr.read(1), "ended early"  # waits for the bar to move
        job.kill()
    prepared("scenes:0-400", out, "--size", "16")
    whole = prepared("scenes:0-400", tmp_path / "whole", "--size", "16")
    for path in whole.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert len(list(out.iterdir())) == len(list(whole.iterdir())) == 403


def test_workers_change_nothing(wild: Path, tmp_path: Path) -> None:
    alone = prepared(wild, tmp_path / "alone", "--size", "8")
    many = prepared(wild, tmp_path / "many", "--size", "8", "--workers", "2")
    for path in alone.rglob("*"):
        if path.is_file():
            assert (many / path.relative_to(alone)).read_bytes() == path.read_bytes()


def test_a_zip_keeps_its_folders(wild: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "wild"), "zip", wild)
    out = prepared(packed, tmp_path / "out", "--size", "8", "--workers", "1")
    direct, again = everything(wild, Preprocess(size=8)), everything(out, Preprocess())
    assert torch.equal(again.x, direct.x)
    assert again.labels == direct.labels


def test_what_stops_the_job_is_one_line(
    wild: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = prepared(wild, tmp_path / "out", "--size", "8")
    shutil.rmtree(out / "dog")
    (out / "dog").write_text("in the way")
    for workers in ("0", "1"):
        argv = ["--data", str(wild), "--size", "8", "--out", str(out), "--workers", workers]
        capsys.readouterr()
        assert prepare.main(argv) == 2
        assert "error: " in capsys.readouterr().err.splitlines()[-1]


def test_names_become_paths_that_a_folder_takes_for_images(tmp_path: Path) -> None:
    ids = [
        "../a",
        ".hidden.png",
        "x.png/1",
        "__MACOSX/b",
        "A.png",
        "a.jpg",
        "a.png",
        "c.tar",
        "é/:",
    ]
    paths = prepare.png_paths(ids)
    assert len({path.casefold() for path in paths}) == len(ids)
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / path)
    assert sorted(open_data(tmp_path, Preprocess()).ids) == sorted(paths)
    clash = ["a.jpg", "a.png", "a.png.png", "a.jpg.png"]
    assert prepare.png_paths(clash) == ["a.png", "a.png.png", "a.png.png.png", "a.jpg.png"]


def test_what_png_would_change_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "floats.npy", np.zeros((2, 4, 4), np.float32))
    np.save(tmp_path / "deep.npy", np.zeros((2, 4, 4, 3), np.uint16))
    for data, held in (
        (tmp_path / "floats.npy", "floats"),
        (tmp_path / "deep.npy", "16-bit colour"),
        ("digits", "levels 0..16"),
    ):
        assert held in refusal(capsys, "--data", str(data), "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_other_settings_and_other_data_are_refused(
    wild: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = prepared(wild, tmp_path / "out", "--size", "8")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    same = ["--data", str(wild), "--out", str(out)]
    assert "size [8, 8], not [9, 9]" in refusal(capsys, *same, "--size", "9")
    assert "fit center, not resize" in refusal(capsys, *same, "--size", "8", "--fit", "resize")
    assert "items 6, not 3" in refusal(capsys, *same, "--size", "8", "--limit", "3")
    shutil.copy(wild / "cat" / "1.png", wild / "dog" / "a.png")
    assert "other files" in refusal(capsys, *same, "--size", "8")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    (out / "prepared.json").write_text("{}")
    assert "none of this version's" in refusal(capsys, *same, "--size", "8")


def test_a_folder_that_was_moved_is_the_same(
    wild: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = prepared(wild, tmp_path / "out", "--size", "8")
    whole = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    shutil.copytree(wild, tmp_path / "renamed", symlinks=True)
    capsys.readouterr()
    prepared(tmp_path / "renamed", out, "--size", "8")
    assert "is finished already: 5 images, 1 quarantined" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == whole


def test_folders_of_other_things_are_left_alone(
    wild: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    argv = ["--data", str(wild), "--size", "8", "--out"]
    assert "choose an empty or a new folder" in refusal(capsys, *argv, str(tmp_path / "mine"))
    assert "choose a folder outside" in refusal(capsys, *argv, str(wild / "small"))
    assert "choose a folder outside" in refusal(capsys, *argv, str(wild))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "0"], "greater than or equal to 1"),
        (["--fit", "tile"], "give --size"),
        (["--fit", "crop"], "'center', 'resize' or 'tile'"),
        (["--channels", "cmyk"], "'rgb' or 'gray'"),
        (["--limit", "0"], "greater than or equal to 1"),
        (["--data", "nowhere"], "nowhere"),
        ([], "set a size"),
    ],
)
def test_bad_options_are_one_line(
    wild: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    if not flags:  # images of different sizes are each quarantined, but for those like the first
        out = prepared(wild, tmp_path / "out")
        assert all(message in row["reason"] for row in rows(out / "quarantine.jsonl")[:-1])
        return
    argv = ["--data", str(wild), "--out", str(tmp_path / "out")]
    assert message in refusal(capsys, *argv, *flags)
    assert not (tmp_path / "out").exists()
