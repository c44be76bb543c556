"""Images of five channels go all the way: a config from them, encode, decode, sample, analyse."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gdm_repr import decode, encode, sample
from gdm_repr.recipe import ARRAY, SHEET

QUICK = "--features pixels --anchors 2 --draws 2 --cuts 3 --pool 4"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "cells.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (24, 5, 8, 8), dtype=np.uint8))
    return path


def test_all_the_way(
    images: Path,
    tmp_path: Path,
    make_model: Callable[..., Path],
    analyse: Callable[..., dict[str, object]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = make_model(tmp_path / "model.safetensors", (5, 8, 8))
    common = ["--checkpoint", str(model), "--no-track"]
    latents, decoded, drawn = (tmp_path / name for name in ("latents", "decoded", "drawn"))
    argv = ["--data", str(images), "--steps", "24", "--workers", "0", "--out", str(latents)]
    assert encode.main([*common, *argv]) == 0
    assert decode.main([*common, "--latents", str(latents), "--out", str(decoded)]) == 0
    x = np.load(images) / np.float32(127.5) - 1
    assert np.sqrt(np.square(np.load(decoded / ARRAY) - x).mean()) < 0.02
    assert (decoded / SHEET).is_file() and not (decoded / "images").exists()
    argv = ["--n", "3", "--steps", "6", "--frames", "2", "--out", str(drawn)]
    assert sample.main([*common, *argv]) == 0
    assert np.load(drawn / ARRAY).shape == (3, 5, 8, 8)
    assert sample.main([*common, *argv, "--format", "png", "--overwrite"]) == 2
    assert "images have 5; use npy" in capsys.readouterr().err
    found = analyse("band_variance", QUICK, f"--data {images}", checkpoint=model, latents=latents)
    assert json.dumps(found)
