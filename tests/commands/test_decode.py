"""The decode command: what the API decodes, as PNG files by id or as one array."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from gdm_repr import GDM, decode
from gdm_repr.files import safe_name
from gdm_repr.latents.format import Manifest
from gdm_repr.latents.store import LatentStore, open_store
from gdm_repr.pictures import to_uint8

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def store(
    trained: Path, make_store: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> LatentStore:
    """Latents of 20 digits in three shards, by other steps than the default."""
    flags = "--data digits --first 20 --shard-size 8 --solver heun --steps 5,4,3"
    return open_store(make_store(tmp_path_factory.mktemp("store") / "z", trained, flags))


def run(model: Path, latents: Path, out: Path, *flags: str) -> int:
    argv = ["--checkpoint", str(model), "--latents", str(latents), "--out", str(out)]
    return decode.main([*argv, "--no-track", *flags])


def array(out: Path) -> Floats:
    x: Floats = np.load(out / "images.npy")
    return x


@pytest.fixture
def refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Decode and return the line by which it is refused; nothing is written then."""

    def decoded(latents: Path, model: Path = trained) -> str:
        capsys.readouterr()
        assert run(model, latents, tmp_path / "x") == 2
        assert not (tmp_path / "x").exists()
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return decoded


@pytest.fixture
def copy(store: LatentStore, tmp_path: Path) -> Path:
    """A copy of the store, to be damaged."""
    return Path(shutil.copytree(store.path, tmp_path / "z"))


def expected(trained: Path, store: LatentStore) -> Floats:
    model = GDM.from_pretrained(trained)
    plan = model.plan((5, 4, 3), solver="heun")
    x: Floats = model.decode(torch.from_numpy(store.z()), plan).numpy()
    return x


@pytest.mark.parametrize("size", ["3", "8", "64"])
def test_an_array_holds_what_the_api_decodes(
    trained: Path, store: LatentStore, tmp_path: Path, size: str
) -> None:
    flags = ["--format", "npy", "--batch-size", size]
    assert run(trained, store.path, tmp_path / "x", *flags) == 0
    x = array(tmp_path / "x")
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, expected(trained, store), atol=1e-5)
    error = np.sqrt(((x - original()) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(error, store.errors("round_trip_error"), atol=1e-5)


def original() -> Floats:
    from gdm_repr.data.images import Preprocess
    from gdm_repr.data.loading import open_data

    x: Floats = open_data("digits", Preprocess(dequantize=True)).batch(range(20)).x.numpy()
    return x


def test_files_are_named_by_id(trained: Path, store: LatentStore, tmp_path: Path) -> None:
    assert run(trained, store.path, tmp_path / "x", "--batch-size", "7") == 0
    folder = tmp_path / "x" / "images"
    assert sorted(path.name for path in folder.iterdir()) == [f"{i:06d}.png" for i in range(20)]
    for name, image in zip(store.ids, expected(trained, store), strict=True):
        with Image.open(folder / f"{name}.png") as file:
            assert (file.mode, file.size) == ("L", (8, 8))
            difference = np.asarray(file).astype(int) - to_uint8(image)[..., 0]
        assert np.abs(difference).max() <= 1
    with Image.open(tmp_path / "x" / "sheet.png") as sheet:
        assert sheet.size == (16 * (8 * 12 + 8), 2 * (8 * 12 + 8))


@pytest.mark.parametrize("limit", [1, 8, 9, 50])
def test_a_limit_decodes_the_first(
    trained: Path, store: LatentStore, tmp_path: Path, limit: int
) -> None:
    flags = ["--limit", str(limit), "--format", "npy", "--batch-size", "5"]
    assert run(trained, store.path, tmp_path / "x", *flags) == 0
    np.testing.assert_allclose(array(tmp_path / "x"), expected(trained, store)[:limit], atol=1e-5)


def test_an_array_of_latents_is_decoded_by_the_default_plan(
    trained: Path, store: LatentStore, tmp_path: Path
) -> None:
    z = store.z()
    np.save(tmp_path / "z.npy", z.astype(np.float64))
    for form in ("npy", "png"):
        flags = ["--format", form, "--batch-size", "6", "--limit", "7"]
        assert run(trained, tmp_path / "z.npy", tmp_path / form, *flags) == 0
    x = GDM.from_pretrained(trained).decode(torch.from_numpy(z[:7])).numpy()
    np.testing.assert_allclose(array(tmp_path / "npy"), x, atol=1e-5)
    names = sorted(path.name for path in (tmp_path / "png" / "images").iterdir())
    assert names == [f"{i:06d}.png" for i in range(7)]


def test_colour_images_of_a_folder_keep_their_paths(
    make_model: Callable[..., Path], make_store: Callable[..., Path], tmp_path: Path
) -> None:
    grouping = {"name": "cdm", "per_channel": True}
    model = make_model(tmp_path / "m.safetensors", (3, 4, 6), grouping=grouping)
    for name in ("cat/a b.png", "cat/a_b.png", "dog/a_b.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (200, 100, 50)).save(path)
    z = make_store(tmp_path / "z", model, f"--data {tmp_path}/images --steps 96")
    assert run(model, z, tmp_path / "x") == 0
    folder = tmp_path / "x" / "images"
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert found == ["cat/a b.png.png", "cat/a_b.png.png", "dog/a_b.png.png"]
    with Image.open(folder / found[0]) as image:
        assert (image.mode, image.size) == ("RGB", (6, 4))
        assert np.abs(np.asarray(image).astype(int) - [200, 100, 50]).max() <= 2


def test_ids_become_paths_inside_the_folder_and_none_is_shared() -> None:
    ids = [
        "a", "b", "../a", "/a", "//a", "./a", "a/../b", "..", ".", "", "a b", "a_b", "a:b", "a%3Ab",
        "a\\b", "a\0b", "a\nb", "...", "é", "e\u0301", "~", "a.png", "a#r0c1",
    ]  # fmt: skip
    paths = [safe_name(name) for name in ids]
    assert len(set(paths)) == len(ids)
    root = Path("/root/of/all")
    for path in paths:
        assert not path.startswith("/")
        assert (root / path).resolve().is_relative_to(root)
        assert not {"", ".", ".."} & set(path.split("/"))


def test_another_models_store_is_refused(
    make_model: Callable[..., Path], store: LatentStore, tmp_path: Path, refused: Callable[..., str]
) -> None:
    other = make_model(tmp_path / "m.safetensors", (1, 8, 8))
    assert "use the checkpoint they were encoded with" in refused(store.path, other)


def write_without_digests(path: Path, manifest: dict[str, Any]) -> None:
    """Write a store's manifest as before there were digests, its solver's fingerprint made anew."""
    solver = json.dumps(manifest["settings"]["solver"], sort_keys=True)
    manifest["fingerprint"]["solver"] = hashlib.sha256(solver.encode()).hexdigest()
    manifest.pop("sha256", None)
    for shard in (path / "shards").iterdir():
        table = pq.read_table(shard)
        note = json.loads(table.schema.metadata[b"gdm_repr"])
        note["store"] = Manifest.model_validate(manifest).digest
        pq.write_table(table.replace_schema_metadata({"gdm_repr": json.dumps(note)}), shard)
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "solver",
    [
        {},
        {"steps": 3, "precision": "fp32"},
        {"precision": "fp32", "x": 1},
        {"precision": "fp32", "steps": ["a"]},
        {"precision": "fp32", "steps": [5, 4, 3], "solver": []},
        {"precision": "fp32", "steps": [5, 4, 0.5]},
        [1],
        "heun",
    ],
)
def test_a_store_that_does_not_say_its_solver_is_refused(
    copy: Path, refused: Callable[..., str], solver: object
) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["settings"]["solver"] = solver
    write_without_digests(copy, manifest)
    assert "does not say how it was encoded" in refused(copy)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("settings", "solver", "steps"), [1, 1, 1]),
        (("settings", "order"), [2, 1, 0]),
        (("settings", "source"), "photos"),
        (("fingerprint", "solver"), "0" * 64),
        (("items",), 19),
        (("encoded",), 19),
    ],
)
@pytest.mark.parametrize("digests", [True, False])
def test_a_store_whose_manifest_was_edited_is_not_decoded(
    trained: Path, copy: Path, refused: Callable[..., str], path: tuple[str, ...], value: object,
    digests: bool,
) -> None:  # fmt: skip
    file = copy / "manifest.json"
    manifest = part = json.loads(file.read_text())
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    if not digests:
        del manifest["sha256"]
    file.write_text(json.dumps(manifest))
    if not digests and path[-1] == "source":  # only a name there
        assert run(trained, copy, copy.parent / "x") == 0
        return
    line = refused(copy)
    assert str(copy) in line and ("digest" in line or not digests)


@pytest.mark.parametrize("order", ["abc", 5, [0.0, 1.0, 2.0], [True, 0, 2], [0, 1], {"0": 1}])
def test_an_order_that_is_none_is_refused(
    copy: Path, refused: Callable[..., str], order: object
) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["settings"]["order"] = order
    write_without_digests(copy, manifest)
    assert "order" in refused(copy)


@pytest.mark.parametrize(
    ("z", "says"),
    [
        (np.zeros((0, 1, 64), np.float32), "shape (0, 1, 64)"),
        (np.zeros((4, 64), np.float32), "must be floats of shape (N, 1, 64)"),
        (np.zeros((4, 3, 64), np.float32), "must be floats of shape (N, 1, 64)"),
        (np.zeros((4, 1, 64), np.int64), "int64"),
        (np.float32(3), "shape ()"),
        (np.full((2, 1, 64), np.nan, np.float32), "not finite"),
    ],
)
def test_arrays_that_are_no_latents_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    z: npt.NDArray[np.generic], says: str,
) -> None:  # fmt: skip
    np.save(tmp_path / "z.npy", z)
    assert run(trained, tmp_path / "z.npy", tmp_path / "x") == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_store_of_another_order_is_decoded_in_it(
    make_model: Callable[..., Path], make_store: Callable[..., Path], tmp_path: Path
) -> None:
    grouping = {"name": "bands", "cuts": [6, 21]}
    model = make_model(tmp_path / "m.safetensors", (1, 8, 8), "random", grouping=grouping)
    latents = make_store(tmp_path / "z", model, "--data digits --limit 3 --order 2,0,1")
    assert run(model, latents, tmp_path / "x", "--format", "npy") == 0
    z = torch.from_numpy(open_store(latents).z())
    x = GDM.from_pretrained(model).with_order([2, 0, 1]).decode(z)
    np.testing.assert_allclose(array(tmp_path / "x"), x.numpy(), atol=1e-5)


def test_ids_choose_what_is_decoded(
    trained: Path, store: LatentStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids, out = tmp_path / "ids.txt", tmp_path / "x"
    ids.write_text("000017\n000003\n")
    assert run(trained, store.path, out, "--format", "npy", "--ids", str(ids)) == 0
    np.testing.assert_allclose(array(out), expected(trained, store)[[3, 17]], atol=1e-5)
    assert run(trained, store.path, out, "--format", "npy", "--ids", str(ids)) == 0
    assert "finished already" in capsys.readouterr().out
    ids.write_text("000017\n000004\n")
    assert run(trained, store.path, out, "--format", "npy", "--ids", str(ids)) == 2
    assert "ids " in capsys.readouterr().err
    np.save(tmp_path / "z.npy", store.z())
    assert run(trained, tmp_path / "z.npy", tmp_path / "y", "--ids", str(ids)) == 2
    assert "is an array without ids" in capsys.readouterr().err
