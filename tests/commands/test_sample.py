"""The sample command: image i depends on the seed plus i, and on nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from gdm_repr import GDM, sample
from gdm_repr.pictures import to_uint8
from gdm_repr.process_strip import process_sheet


def arguments(model: Path, out: Path, *flags: str) -> list[str]:
    argv = ["--checkpoint", str(model), "--out", str(out), "--no-track"]
    return [*argv, *([] if "--steps" in flags else ["--steps", "6"]), *flags]


def drawn(model: Path, out: Path, *flags: str) -> npt.NDArray[np.float32]:
    assert sample.main(arguments(model, out, "--format", "npy", *flags)) == 0
    x: npt.NDArray[np.float32] = np.load(out / "images.npy")
    return x


def test_samples_are_those_of_the_api(trained: Path, tmp_path: Path) -> None:
    x = drawn(trained, tmp_path / "x", "--n", "9", "--seed", "4", "--batch-size", "4")
    model = GDM.from_pretrained(trained)
    np.testing.assert_allclose(x, model.sample(9, seed=4, plan=model.plan(6)), atol=1e-5)


def test_a_sample_depends_on_its_own_seed_alone(trained: Path, tmp_path: Path) -> None:
    x = drawn(trained, tmp_path / "a", "--n", "9")
    for size in ("1", "2", "64"):
        again = drawn(trained, tmp_path / size, "--n", "9", "--batch-size", size)
        np.testing.assert_allclose(again, x, atol=1e-5)
    np.testing.assert_allclose(
        drawn(trained, tmp_path / "b", "--n", "3", "--seed", "6"), x[6:], atol=1e-5
    )
    assert np.abs(x[0] - x[1]).max() > 0.1


def test_files_are_named_by_seed(trained: Path, tmp_path: Path) -> None:
    assert sample.main(arguments(trained, tmp_path / "x", "--n", "5", "--seed", "98")) == 0
    names = sorted(path.name for path in (tmp_path / "x" / "images").iterdir())
    assert names == [f"seed{seed:06d}.png" for seed in range(98, 103)]
    x = drawn(trained, tmp_path / "y", "--n", "5", "--seed", "98")
    for image, name in zip(x, names, strict=True):
        with Image.open(tmp_path / "x" / "images" / name) as file:
            difference = np.asarray(file).astype(int) - to_uint8(image)[..., 0]
        assert np.abs(difference).max() <= 1
    with Image.open(tmp_path / "x" / "sheet.png") as sheet:
        assert sheet.size == (5 * (8 * 12 + 8), 8 * 12 + 8)


def test_settings_reach_the_solver(trained: Path, tmp_path: Path) -> None:
    flags = ["--n", "8", "--solver", "euler", "--coordinate", "uniform", "--steps", "9"]
    model = GDM.from_pretrained(trained)
    plan = model.plan(9, solver="euler", coordinate="uniform")
    x = drawn(trained, tmp_path / "a", *flags)
    np.testing.assert_allclose(x, model.sample(8, plan=plan), atol=1e-5)
    split = model.plan(9, solver="euler", coordinate="uniform", split_on=model.sample(8, plan=plan))
    assert split.steps != plan.steps
    x = drawn(trained, tmp_path / "b", *flags, "--split", "auto")
    np.testing.assert_allclose(x, model.sample(8, plan=split), atol=1e-5)


@pytest.mark.parametrize(("n", "rows"), [(2, 2), (9, 4)])
def test_the_process_is_drawn_when_asked_for(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int, rows: int
) -> None:
    drawn(trained, tmp_path / "without", "--n", "1")
    assert not (tmp_path / "without" / "process.png").exists()
    out, seed = tmp_path / "x", 7
    x = drawn(trained, out, "--n", str(n), "--seed", str(seed), "--frames", "5")
    assert str(out / "process.png") in capsys.readouterr().out
    model = GDM.from_pretrained(trained)
    names = [f"seed {seed + i}" for i in range(rows)]
    same = process_sheet(model, model.noise(rows, seed=seed), model.plan(6), 5, names)
    with Image.open(out / "process.png") as file:
        picture = np.asarray(file).astype(int)
    assert np.abs(picture - same.pixels).max() <= 1
    last = picture[:, same.margin + 4 * same.column :, 0]  # ends with the sample itself
    image = np.kron(to_uint8(x[rows - 1])[..., 0].astype(int), np.ones((12, 12), int))
    assert np.abs(last[-100:-4, :96] - image).max() <= 1


def test_the_process_is_tracked(
    trained: Path, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    argv = arguments(trained, tmp_path / "x", "--n", "1", "--frames", "2")
    argv.remove("--no-track")
    assert sample.main(argv) == 0
    record = (tmp_path / "x" / "track.jsonl").read_text()
    assert "process.png" in record


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--n", "0"], "n='0': Input should be greater than or equal to 1"),
        (["--seed", "-1"], "seed='-1'"),
        (["--frames", "1"], "frames='1': must be 0, for no picture, or at least 2"),
        (["--frames", "-1"], "frames='-1'"),
        (["--steps", "2"], "fewer than the 3 groups"),
        (["--solver", "dopri5", "--split", "auto"], "chooses its own steps"),
    ],
)
def test_impossible_options_are_one_line(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    says: str,
) -> None:
    assert sample.main(arguments(trained, tmp_path / "x", *flags)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gdm-repr sample: error: ")
    assert says in line
    assert not (tmp_path / "x").exists()
