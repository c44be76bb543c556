"""``gdm-repr init``: what images are like, what is made of it, and that it trains as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from gdm_repr import init, train
from gdm_repr.command import build
from gdm_repr.config import TrainConfig
from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import open_data
from gdm_repr.proposal import PROPOSED, network_options, propose
from gdm_repr.survey import NOISE, survey


def draw(
    folder: Path, sizes: list[tuple[int, int]], mode: str = "L", *, flat: bool = False
) -> Path:
    """Write an image of each size (height, width), in two classes."""
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(sizes):
        shape = (height, width, 3) if mode == "RGB" else (height, width)
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        if flat:
            pixels[height // 4 :] = 255
        path = folder / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels, mode).save(path)
    return folder


def test_what_images_are_like(tmp_path: Path) -> None:
    images = draw(tmp_path / "a", [(40, 30)] * 3 + [(28, 28)], "RGB")
    (images / "class0" / "broken.png").write_bytes(b"none")
    found = survey(images)
    assert (found.images, found.channels, found.side) == (5, 3, 30)
    assert found.sizes == (((40, 30), 3), ((28, 28), 1))
    assert found.noise == 0
    assert found.labels == {"label": 2}
    assert [*found.unusable] == ["class0/broken.png"]
    assert survey(draw(tmp_path / "b", [(28, 28)] * 4, flat=True)).noise == NOISE
    with pytest.raises(ValueError, match=r"none of 1 images can be used; broken\.png"):
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / "broken.png").write_bytes(b"none")
        survey(tmp_path / "c")


@pytest.mark.parametrize(
    ("size", "mode", "shape"),
    [((28, 28), "L", (1, 28, 28)), ((9, 70), "RGB", (3, 8, 8)), ((130, 50), "L", (1, 32, 32))],
)
def test_what_is_made_fits_the_images(
    tmp_path: Path, size: tuple[int, int], mode: str, shape: tuple[int, int, int]
) -> None:
    images = draw(tmp_path / "images", [size] * 6, mode)
    made = propose(str(images), minutes=0.01)
    config = made.config(out="model")
    assert open_data(str(images), config.preprocess).shape == shape
    assert config.images <= 400 * 6
    cuts = made.values["model"]["grouping"]["cuts"]
    assert 0 < cuts[0] < cuts[-1] < shape[1] * shape[2]


@pytest.mark.parametrize("side", range(8, 132, 4))
def test_a_network_fits_every_side(side: int) -> None:
    options = network_options(side, 8)
    halved = options["patch"] * 2 ** (len(options["multipliers"]) - 1)
    assert side % halved == 0
    assert options["attention"] == [side // halved]


def test_the_file_trains_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out = draw(tmp_path / "images", [(12, 12)] * 8), tmp_path / "my.yaml"
    assert init.main([str(images), "--out", str(out), "--minutes", "0.01"]) == 0
    told = capsys.readouterr().out
    assert "parameters" in told
    assert "evaluations" in told
    values = yaml.safe_load(out.read_text())
    config = build(TrainConfig, {**values, "out": tmp_path / "run"})
    assert config.preprocess == Preprocess(size=12, channels="gray", dequantize=True)
    assert init.main([str(images), "--out", str(out)]) == 2
    assert "is there already; add --overwrite" in capsys.readouterr().err
    assert init.main([str(tmp_path / "none"), "--out", str(tmp_path / "b.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    argv = ["--config", str(out), "--images", "64", "--out", str(tmp_path / "run"), "--no-track"]
    assert train.main(argv) == 0


def test_training_without_a_config_makes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = draw(tmp_path / "images", [(12, 12)] * 8), tmp_path / "run"
    argv = ["--data", str(images), "--images", "128", "--out", str(out), "--no-track"]
    assert train.main([*argv, "--dry-run"]) == 0
    assert not out.exists()
    assert train.main(argv) == 0
    told = capsys.readouterr().err
    assert f"no --config: {out / PROPOSED} is made from the images" in told
    assert "minutes" in told
    before = (out / PROPOSED).read_bytes()
    argv[3] = "256"
    assert train.main([*argv, "--resume"]) == 0  # by its own options, whatever a clock says now
    assert (out / PROPOSED).read_bytes() == before
    capsys.readouterr()
    assert train.main([*argv, "--resume", "--cuts", "5"]) == 2  # not silently with its own
    assert "model" in capsys.readouterr().err


def test_the_file_that_training_makes_has_what_was_given(tmp_path: Path) -> None:
    """Training by it makes the same model."""
    images, out = draw(tmp_path / "images", [(12, 12)] * 8), tmp_path / "run"
    argv = ["--data", str(images), "--images", "64", "--cuts", "2,9", "--seed", "3", "--no-track"]
    assert train.main([*argv, "--out", str(out)]) == 0
    text = (out / PROPOSED).read_text()
    (line,) = [line for line in text.splitlines() if "cuts" in line]
    assert line.endswith("# as given")
    again = build(TrainConfig, {**yaml.safe_load(text), "out": "again"})
    made = yaml.safe_load((out / "config.json").read_text())
    assert again.model == build(TrainConfig, {**made, "out": "again"}).model
    assert (again.seed, again.images, again.hold_out) == (3, 64, None)


def test_training_that_does_not_fit_in_memory_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = draw(tmp_path / "images", [(64, 64)] * 4, "RGB")
    config = tmp_path / "wide.yaml"
    config.write_text("model: {network: {name: ddpmpp, channels: 64}}\nbatch_size: 64\n")
    monkeypatch.setattr("gdm_repr.memory.free_memory", lambda device="cpu": 4_000_000_000)
    argv = ["--config", str(config), "--data", str(images), "--out", str(tmp_path / "run")]
    assert train.main([*argv, "--no-track"]) == 2
    error = capsys.readouterr().err
    assert "--batch-size 64: training 1" in error
    assert "add --accumulate" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run" / "model.safetensors").exists()
    with pytest.raises(ValueError, match="the smallest network takes"):
        monkeypatch.setattr("gdm_repr.memory.free_memory", lambda device="cpu": 1)
        propose(str(images))


def test_short_options_are_parts_of_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are laid over what a config, or the images, say of the rest."""
    short = {"cuts": [3, 9], "channels": 8, "multipliers": [1, 2]}
    config = build(TrainConfig, {"data": "digits", "out": "x", "model": {"process": "vp"}, **short})
    assert config.model.process == "vp"
    assert config.model.grouping.options() == {"cuts": [3, 9]}
    assert config.model.network.model_dump()["multipliers"] == (1, 2)
    assert not set(short) & set(config.resolved())
    argv = ["--data", "digits", "--out", str(tmp_path / "run"), "--cuts", "3,9", "--dry-run"]
    argv += ["--preprocess.size", "8"]  # what is not given of it is proposed, too
    assert train.main(argv) == 0
    told = yaml.safe_load(capsys.readouterr().out)
    assert told["preprocess"]["dequantize"]
    assert told["model"]["grouping"]["cuts"] == [3, 9]
    assert told["model"]["denoiser"]["preconditioning"] == "principal"  # as it is proposed
    assert train.main([*argv, "--cuts", "9,3"]) == 2
    assert "cuts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"cuts": 30}, "cuts=30"),
        ({"cuts": [3], "model": 5}, "model=5"),
        ({"cuts": [3], "model": {"grouping": "bands"}}, "model.grouping='bands'"),
        ({"channels": 8, "model": {"network": "mlp"}}, "model.network='mlp'"),
    ],
)
def test_short_options_beside_what_is_no_model_are_refused(
    given: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        build(TrainConfig, {"data": "digits", "out": "x", **given})
