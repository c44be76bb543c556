"""Scenes as a source: any access gives the same images, and its settings those of the library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import load, open_data
from gdm_repr.data.scenes.factors import SCENE_FACTORS, render_scenes, scene_factors
from gdm_repr.data.sources.registry import open_source

PLAIN = Preprocess()


def test_scenes_are_rendered_at_the_size_asked_for() -> None:
    scenes = open_source("scenes")
    assert len(scenes.ids) == len(set(scenes.ids)) == 10_000
    assert list(scenes.labels) == [factor.name for factor in SCENE_FACTORS]
    factors = scene_factors([7, 300, 301])
    for size in (16, 32):
        pixels = [scenes.pixels(i, Preprocess(size=size)) for i in (7, 300, 301)]
        np.testing.assert_array_equal(np.stack(pixels), render_scenes(factors, size))
    for other in (None, 8, 200, (16, 32)):  # brought to size by `fit`, as any image is
        assert scenes.size(0, Preprocess(size=other)) == scenes.pixels(0, PLAIN).shape[:2]


def test_a_range_of_scenes_holds_the_same_scenes() -> None:
    part, whole = open_source("scenes:290-310"), open_source("scenes")
    assert part.ids == whole.ids[290:310]
    assert part.labels["hue"] == whole.labels["hue"][290:310]
    np.testing.assert_array_equal(part.pixels(5, PLAIN), whole.pixels(295, PLAIN))
    assert list(part.content()) != list(open_source("scenes:310-330").content())


def test_in_a_row_or_not_a_scene_is_the_same() -> None:
    whole = render_scenes(scene_factors(range(600)), 16)
    small = Preprocess(size=16)
    jumps = np.random.default_rng(0).permutation(600)[:40]
    for order in (range(600), range(599, 560, -1), jumps, [5, 6, 7, 300, 6, 7, 8, 599]):
        scenes = open_source("scenes:0-600")
        for index in order:
            np.testing.assert_array_equal(scenes.pixels(int(index), small), whole[index])


STARS: dict[str, Any] = {"shape": ["star", "heart"], "hue": (0.0, 0.5)}
TURNED: dict[str, Any] = {"rotation": (-30.0, 0.0), "accessory": ["none"]}


@pytest.mark.parametrize(
    ("argument", "numbers", "settings"),
    [
        ("0-50/seed=3", range(50), {"seed": 3}),
        ("seed=3", range(10_000), {"seed": 3}),
        ("10-50/values=5", range(10, 50), {"values": 5}),
        (
            "0-50/correlated=size,y,0.8/correlated=hue,shape,-1",
            range(50),
            {"correlated": [("size", "y", 0.8), ("hue", "shape", -1.0)]},
        ),
        (
            "0-50/holdout=shape:star+heart,hue:0..0.5/holdout=rotation:-30..0,accessory:none",
            range(50),
            {"holdout": [STARS, TURNED]},
        ),
        (
            "0-50/only=shape:star+heart,hue:0..0.5/values=4/seed=1",
            range(50),
            {"only": [STARS], "values": 4, "seed": 1},
        ),
    ],
)
def test_settings_are_those_of_the_library(
    argument: str, numbers: range, settings: dict[str, Any]
) -> None:
    scenes = open_source(f"scenes:{argument}")
    expected = scene_factors(numbers, **settings)
    assert scenes.labels == {name: column.tolist() for name, column in expected.items()}
    assert scenes.ids == [f"{number:06d}" for number in numbers]
    row = {name: column[7:8] for name, column in expected.items()}
    np.testing.assert_array_equal(scenes.pixels(7, PLAIN), render_scenes(row, 64)[0])
    assert open_source(scenes.name).labels == scenes.labels  # found again by its name


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("9-9", "'9-9' is no range"),
        ("0-9/seeds=3", "'seeds=3' is none of the settings seed, values"),
        ("0-9/seed=x", "'seed=x' must be one number"),
        ("0-9/seed=1/seed=2", "'seed=2' must be one number, once"),
        ("0-9/values=0", "values = 0"),
        ("0-9/correlated=size,y", "must be two factors and a number"),
        ("0-9/correlated=size,y,2", "outside"),
        ("0-9/correlated=size,z,.5", "'z', which is no factor"),
        ("0-9/holdout=shape:disc", "'disc' is none of ellipse"),
        ("0-9/holdout=hue:0..x", "must be a range of numbers LOW..HIGH"),
        ("0-9/holdout=hue:0.5", "must be a range"),
        ("0-9/holdout=shape:star,shape:heart", "names a factor twice"),
        ("0-9/only=hue:0..0.5/holdout=hue:0..0.5", "leaves almost no scenes"),
    ],
)
def test_bad_settings(argument: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        open_source(f"scenes:{argument}")
    assert f"data 'scenes:{argument}'" in str(caught.value)
    assert "write it as in scenes:0-5000/" in str(caught.value)


def test_the_example_of_the_message_works() -> None:
    from gdm_repr.data.sources.scenes import _EXAMPLE

    assert len(open_source(_EXAMPLE).ids) == 5000


def test_factors_travel_into_the_store(make_model: Callable[..., Path], tmp_path: Path) -> None:
    from gdm_repr import encode
    from gdm_repr.latents.store import open_store

    data = "scenes:0-40/correlated=size,y,1/only=shape:star+heart"
    model = make_model(tmp_path / "model.safetensors", (3, 16, 16), basis={"name": "dct"})
    argv = ["--checkpoint", str(model), "--data", data, "--steps", "2", "--no-track"]
    assert encode.main([*argv, "--out", str(tmp_path / "latents"), "--device", "cpu"]) == 0
    store = open_store(tmp_path / "latents")
    factors = scene_factors(
        range(40), correlated=[("size", "y", 1.0)], only=[{"shape": ["star", "heart"]}]
    )
    for name, column in factors.items():
        stored = store.labels(name)
        assert list(stored) == column.tolist()
    types = store.manifest.labels
    for factor in SCENE_FACTORS:
        assert types[factor.name] == ("string" if factor.kind == "discrete" else "float")
    assert store.manifest.settings["source"] == data


def test_workers_change_nothing() -> None:
    scenes = open_data("scenes:0-300/seed=2", Preprocess(size=16))
    here = [batch.x for batch in load(scenes, [range(200), [250, 3]], workers=0)]
    there = [batch.x for batch in load(scenes, [range(200), [250, 3]], workers=2)]
    assert all((a == b).all() for a, b in zip(here, there, strict=True))
