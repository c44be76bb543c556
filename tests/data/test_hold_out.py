"""Held-out images: chosen by content, seen by no training, and what analyses look at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gdm_repr import encode, train
from gdm_repr.data.hold_out import place
from gdm_repr.data.images import Pixels, Preprocess
from gdm_repr.data.loading import find_held_out, open_data
from gdm_repr.latents.store import open_store

SHARE = 0.3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (90, 8, 8))):
        Image.fromarray(pixels.astype(np.uint8)).save(path / f"{number}.png")
    (path / "broken.png").write_bytes(b"no image")
    return path


def held_out(data: Path, share: float = SHARE, **options: Any) -> dict[str, bool]:  # noqa: ANN401
    dataset = open_data(data, Preprocess(**options))
    found = find_held_out(dataset, share)
    return dict(zip(dataset.ids, found.tolist(), strict=True))


def test_an_image_stays_on_its_side(folder: Path, tmp_path: Path) -> None:
    """Renamed, saved in another format, among fewer images, and at another size of x."""
    sides = held_out(folder)
    assert 10 < sum(sides.values()) < 45
    assert not sides["broken.png"]
    for name in list(sides)[:40]:
        if name != "broken.png":
            with Image.open(folder / name) as image:
                image.save(tmp_path / f"other-{name}.bmp")
    others = held_out(tmp_path, size=4)
    assert {name: sides[name[6:-4]] for name in others} == others


def test_a_larger_share_holds_out_the_same_and_more(folder: Path) -> None:
    few, many = held_out(folder, 0.1), held_out(folder, 0.5)
    assert all(many[name] for name in few if few[name])
    assert sum(many.values()) > sum(few.values())


def test_workers_find_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_data(folder, Preprocess())
    alone = find_held_out(dataset, SHARE)
    monkeypatch.setattr("gdm_repr.data.loading._FEW", 0)
    assert (find_held_out(dataset, SHARE, workers=1) == alone).all()


def test_tiles_of_an_image_are_on_one_side(folder: Path) -> None:
    whole, tiles = held_out(folder), held_out(folder, size=4, fit="tile")
    assert len(tiles) > 3 * 90
    assert all(side == whole[name.partition("#")[0]] for name, side in tiles.items())


def test_parts_are_all_there_is_and_a_limit_counts_among_them(folder: Path) -> None:
    sides = held_out(folder)
    parts = {
        part: open_data(folder, Preprocess(), part=part, hold_out=SHARE)
        for part in ("held-out", "seen")
    }
    assert parts["held-out"].ids == [name for name, side in sides.items() if side]
    assert sorted([*parts["held-out"].ids, *parts["seen"].ids]) == sorted(sides)
    few = open_data(folder, Preprocess(), part="held-out", hold_out=SHARE, limit=5)
    assert len(few) == 5
    marks = few.batch(range(5)).held_out
    assert marks is not None
    assert marks.all()
    assert few.chosen == "sample"
    with pytest.raises(ValueError, match="held nothing out"):
        open_data(folder, Preprocess(), part="seen")
    with pytest.raises(ValueError, match=r"part='held-out': none of the 91 images"):
        open_data(folder, Preprocess(), part="held-out", hold_out=1e-6)


def test_what_is_in_memory_keeps_its_sides_and_can_be_taken_from(folder: Path) -> None:
    dataset = open_data(folder, Preprocess()).marking(SHARE)
    rows = [len(dataset) - 1, 3, 5]  # the first is the broken one
    for each in (dataset.in_memory().take(rows), dataset.take(rows).in_memory()):
        batch, same = each.batch(range(3)), dataset.take(rows).batch(range(3))
        assert (batch.ids, batch.rejected) == (same.ids, same.rejected)
        np.testing.assert_array_equal(batch.x, same.x)
        assert batch.held_out is not None
        np.testing.assert_array_equal(batch.held_out, same.held_out)


def test_an_image_is_hashed_once_for_all_its_tiles(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[float] = []

    def counted(pixels: Pixels) -> float:
        hashed.append(place(pixels))
        return hashed[-1]

    monkeypatch.setattr("gdm_repr.data.dataset.place", counted)
    dataset = open_data(folder, Preprocess(size=2, fit="tile"))
    find_held_out(dataset.take(slice(64)), SHARE)
    assert len(hashed) == 64 / 16


def run_training(out: Path, data: Path, *flags: str) -> int:
    network = '{"name": "mlp", "width": 8, "depth": 1}'
    argv = f"--out {out} --data {data} --images 64 --batch-size 16 --workers 0 --no-track"
    return train.main([*argv.split(), "--model.network", network, *flags])


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    assert run_training(out, folder, "--hold-out", "0.8") == 0
    return out


def test_training_keeps_the_share_and_judges_by_what_it_held_out(model: Path, folder: Path) -> None:
    from gdm_repr.checkpoint import load_checkpoint

    assert load_checkpoint(model / "model.safetensors").hold_out == 0.8
    verdict = json.loads((model / "verdict.json").read_text())
    assert list(verdict["bands"]) == ["held-out", "training"]
    sides = held_out(folder, 0.8)
    quarantined = (model / "quarantine.jsonl").read_text()
    assert "broken.png" in quarantined
    assert not any(f'"{name}"' in quarantined for name, side in sides.items() if side)


def test_training_goes_on_with_the_same_share_alone(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    assert run_training(copy, folder, "--resume", "--images", "80") == 2
    assert "hold_out=None" in capsys.readouterr().err
    assert run_training(copy, folder, "--resume", "--images", "80", "--hold-out", "0.8") == 0
    assert run_training(tmp_path / "none", folder, "--hold-out", "0.0001") == 2
    assert "--hold-out 0.0001" in capsys.readouterr().err


def test_fine_tuning_keeps_unseen_what_was(model: Path, folder: Path, tmp_path: Path) -> None:
    argv = f"--start-from {model} --data {folder} --out {tmp_path} --images 16 --batch-size 16"
    assert train.main([*argv.split(), "--workers", "0", "--no-track"]) == 0
    assert json.loads((tmp_path / "config.json").read_text())["hold_out"] == 0.8


@pytest.fixture(scope="module")
def latents(model: Path, folder: Path) -> Path:
    out = model / "latents"
    assert encode.main(arguments(model, folder, out)) == 0
    return out


def arguments(model: Path, folder: Path, out: Path, *flags: str) -> list[str]:
    argv = f"--checkpoint {model} --data {folder} --out {out} --steps 4 --solver euler --no-track"
    return [*argv.split(), "--workers", "0", "--shard-size", "40", *flags]


def test_a_store_says_which_rows_were_held_out(
    model: Path, latents: Path, folder: Path, tmp_path: Path
) -> None:
    sides, store = held_out(folder, 0.8), open_store(latents)
    assert store.held_out is not None
    assert dict(zip(store.ids, store.held_out.tolist(), strict=True)) == {
        name: side for name, side in sides.items() if name != "broken.png"
    }
    assert encode.main(arguments(model, folder, tmp_path / "some", "--part", "held-out")) == 0
    some = open_store(tmp_path / "some")
    assert some.ids == [name for name, side in sides.items() if side]
    np.testing.assert_allclose(some.z(), store.z(store.held_out), atol=1e-5)


def test_analyses_take_what_was_held_out_and_say_so(
    model: Path,
    latents: Path,
    folder: Path,
    run_analysis: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"checkpoint": model, "latents": latents, "data": folder}

    def page(out: str, *flags: str) -> str:
        few = (
            "--columns 8 --permutations 19 --resamples 10 --controls none --estimators gaussian",
        )
        assert run_analysis("total_correlation", *few, *flags, out=out, **given) == 0
        return (tmp_path / out / "report.html").read_text()

    n = sum(held_out(folder, 0.8).values())
    assert n >= 64
    said = f"{n} of 90, held out: training never saw them"
    assert said in page("default")
    assert said in capsys.readouterr().err
    assert "all 90, held out or not" in page("all", "--part", "all")
    code = run_analysis("reconstruction", "--features pixels --part seen", out="x", **given)
    assert code == 2
    assert "--part all" in capsys.readouterr().err


def test_what_is_not_known_is_refused(
    trained: Path,
    encoded: Path,
    run_analysis: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert encode.main(arguments(trained, Path("digits"), tmp_path, "--part", "seen")) == 2
    assert "held nothing out" in capsys.readouterr().err
    assert run_analysis("total_correlation", "--part", "held-out") == 2
    assert "does not say which" in capsys.readouterr().err
