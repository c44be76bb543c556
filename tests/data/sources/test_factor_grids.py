"""dSprites, 3D Shapes, MPI3D: small files of the real formats give their images and factors."""

import io
import math
import multiprocessing
import pickle
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gdm_repr.data.images import Preprocess
from gdm_repr.data.loading import load, open_data
from gdm_repr.data.sources.arrays import ArraySource
from gdm_repr.data.sources.registry import open_source

RNG = np.random.default_rng(0)
PLAIN = Preprocess()


class Bomb:
    """Unpickling it fails the test."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return pytest.fail, ("a pickle was read",)


def opened(data: str) -> ArraySource:
    source = open_source(data)
    assert isinstance(source, ArraySource)
    return source


def by_number(source: ArraySource) -> dict[int, int]:
    """Index of every image by its number in the file."""
    return {int(name): index for index, name in enumerate(source.ids)}


@pytest.fixture
def dsprites(tmp_path: Path) -> Path:
    """3 shapes, 2 scales, 2 orientations, 2 x, 3 y: 72 images 16x16, y running fastest."""
    values = [(1.0,), (1.0, 2.0, 3.0), (0.5, 1.0), (0.0, math.pi), (0.0, 1.0), (0.0, 0.5, 1.0)]
    latents = np.array(list(product(*values)))
    np.savez_compressed(
        tmp_path / "dsprites.npz",
        imgs=RNG.integers(0, 2, (len(latents), 16, 16), dtype=np.uint8),
        latents_values=latents,
        latents_classes=np.zeros(latents.shape, np.int64),
        metadata=np.array({"latents_names": ("color", "shape"), "bomb": Bomb()}, dtype=object),
    )
    return tmp_path / "dsprites.npz"


def test_dsprites_without_its_pickle(dsprites: Path) -> None:
    source = opened(f"dsprites:{dsprites}")
    with np.load(dsprites, allow_pickle=False) as arrays:
        images, latents = arrays["imgs"], arrays["latents_values"]
        with pytest.raises(ValueError, match="allow_pickle"):
            _ = arrays["metadata"]
    assert list(source.labels) == ["shape", "scale", "orientation", "x", "y"]
    shapes = ["square", "ellipse", "heart"]
    where = by_number(source)
    assert sorted(where) == list(range(72))
    for number, index in where.items():
        np.testing.assert_array_equal(
            source.pixels(index, PLAIN)[..., 0], images[number] * np.uint8(255)
        )
        row = [column[index] for column in source.labels.values()]
        assert row == [shapes[int(latents[number, 1]) - 1], *latents[number, 2:]]


def test_dsprites_shrinks_to_gray_levels(dsprites: Path) -> None:
    source = open_data(f"dsprites:{dsprites}", Preprocess(size=8))
    x = source.batch(range(len(source))).x
    assert x.shape == (72, 1, 8, 8)
    assert ((x > -0.9) & (x < 0.9)).float().mean() > 0.3


def test_the_order_is_random_and_always_the_same(dsprites: Path, tmp_path: Path) -> None:
    source = opened(f"dsprites:{dsprites}")
    assert len(set(source.labels["shape"][:12])) == 3  # in the file they are all squares
    (tmp_path / "elsewhere").mkdir()
    copied = shutil.copy(dsprites, tmp_path / "elsewhere" / "renamed.npz")
    again = opened(f"dsprites:{copied}")
    assert (again.ids, again.labels) == (source.ids, source.labels)
    assert source.ids[:6] == ["000016", "000037", "000054", "000064", "000021", "000007"]
    names = [f"dsprites:{path}" for path in (dsprites, copied)]
    first, second = (open_data(name, PLAIN).fingerprint() for name in names)
    assert first == second


def test_it_is_unpacked_once_and_again_when_it_changes(dsprites: Path) -> None:
    opened(f"dsprites:{dsprites}")
    (unpacked,) = dsprites.parent.glob("*.unpacked.npy")
    before = unpacked.stat()
    opened(f"dsprites:{dsprites}")
    assert unpacked.stat() == before
    with np.load(dsprites, allow_pickle=False) as arrays:
        latents = arrays["latents_values"]
    np.savez(dsprites, imgs=np.ones((72, 9, 9), np.uint8), latents_values=latents)
    assert opened(f"dsprites:{dsprites}").size(0, PLAIN) == (9, 9)
    (renewed,) = dsprites.parent.glob("*.unpacked.npy")
    assert renewed != unpacked
    assert not list(dsprites.parent.glob("*.partial"))


def test_the_file_of_another_data_set(dsprites: Path) -> None:
    opened(f"dsprites:{dsprites}")
    with pytest.raises(ValueError, match=r"no item named 'images.npy'.*give mpi3d:FILE"):
        open_source(f"mpi3d:{dsprites}")


def test_what_a_killed_process_left_is_cleared_away(dsprites: Path) -> None:
    opened(f"dsprites:{dsprites}")
    (unpacked,) = dsprites.parent.glob("*.unpacked.npy")
    images = unpacked.read_bytes()
    unpacked.unlink()
    (dsprites.parent / f".{unpacked.name}.123.partial").write_bytes(images[:1000])
    opened(f"dsprites:{dsprites}")
    assert unpacked.read_bytes() == images
    assert not list(dsprites.parent.glob(".*.partial"))


def test_of_several_processes_one_unpacks(dsprites: Path) -> None:
    data = f"dsprites:{dsprites}"
    with ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as pool:
        sources = list(pool.map(open_source, [data] * 4))
    assert all(source.ids == sources[0].ids for source in sources)
    assert len(list(dsprites.parent.glob("*.unpacked.npy"))) == 1


def test_other_processes_map_the_same_file(dsprites: Path) -> None:
    source = opened(f"dsprites:{dsprites}")
    assert len(pickle.dumps(source)) < 20_000  # the images would be more
    dataset = open_data(f"dsprites:{dsprites}", PLAIN)
    (batch,) = load(dataset, [range(72)], workers=1)
    assert batch.labels == dataset.labels
    assert (batch.x == dataset.batch(range(72)).x).all()


@pytest.fixture
def shapes3d(tmp_path: Path) -> tuple[Path, npt.NDArray[Any], npt.NDArray[Any]]:
    """32 images 8x8 in an HDF5 file whose chunks cross images, as those of the real one do."""
    h5py = pytest.importorskip("h5py")
    values = [(0.0, 0.9), (0.1, 0.2), (0.3,), (0.75, 1.25), (0, 3), (-30.0, 30.0)]
    labels = np.array(list(product(*values)))
    images = RNG.integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "3dshapes.h5", "w") as file:
        file.create_dataset("images", data=images, chunks=(5, 4, 4, 1), compression="gzip")
        file.create_dataset("labels", data=labels)
    return tmp_path / "3dshapes.h5", images, labels


def test_shapes3d(
    shapes3d: tuple[Path, npt.NDArray[Any], npt.NDArray[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, images, labels = shapes3d
    monkeypatch.setattr(
        "gdm_repr.data.sources.unpacked.BLOCK_BYTES", 7 * 8 * 8 * 3
    )  # not a multiple of chunks
    source = opened(f"shapes3d:{path}")
    names = ["floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"]
    assert list(source.labels) == names
    assert {type(value) for value in source.labels["shape"]} == {int}
    for number, index in by_number(source).items():
        np.testing.assert_array_equal(source.pixels(index, PLAIN), images[number])
        assert [source.labels[name][index] for name in names] == labels[number].tolist()


def test_shapes3d_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "3dshapes.h5").touch()
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ValueError, match=r"pip install 'gdm-repr\[h5\]'"):
        open_source(f"shapes3d:{tmp_path / '3dshapes.h5'}")


@pytest.fixture(scope="session")
def mpi3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of the complex variant, 2x2: each holds its own number in its first bytes."""
    count = 4 * 4 * 2 * 3 * 3 * 40 * 40
    images = np.zeros((count, 2, 2, 3), np.uint8)
    images.reshape(count, 12)[:, :4] = np.arange(count, dtype="<u4").view(np.uint8).reshape(-1, 4)
    path = tmp_path_factory.mktemp("mpi3d") / "real3d_complicated_shapes_ordered.npz"
    np.savez(path, images=images)
    return path


def test_mpi3d_s_factors_follow_from_the_order(mpi3d: Path) -> None:
    source = opened(f"mpi3d:{mpi3d}")
    assert len(source.ids) == len(set(source.ids)) == 460_800
    code: dict[str, list[Any]] = {
        "object_color": ["yellow", "green", "olive", "red"],
        "object_shape": ["coffee cup", "tennis ball", "croissant", "beer cup"],
        "object_size": ["small", "large"],
        "camera_height": ["top", "center", "bottom"],
        "background_color": ["purple", "sea green", "salmon"],
        "horizontal_axis": list(range(40)),
        "vertical_axis": list(range(40)),
    }
    assert list(source.labels) == list(code)
    # the strides that the data set's own page gives
    strides = [115_200, 28_800, 14_400, 4_800, 1_600, 40, 1]
    for index in range(0, 460_800, 997):
        number = int(source.pixels(index, PLAIN).reshape(-1)[:4].copy().view("<u4")[0])
        assert int(source.ids[index]) == number
        steps = [code[name].index(source.labels[name][index]) for name in code]
        assert number == sum(step * stride for step, stride in zip(steps, strides, strict=True))


def test_mpi3d_of_another_variant(mpi3d: Path, tmp_path: Path) -> None:
    for variant in ("toy", "realistic", "real"):
        with pytest.raises(ValueError, match="460800 images where 1036800 belong"):
            open_source(f"mpi3d:{mpi3d}:{variant}")
    np.savez(tmp_path / "few.npz", images=np.zeros((5, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="5 images where 1036800 or 460800 belong"):
        open_source(f"mpi3d:{tmp_path / 'few.npz'}")


def dsprites_with(path: Path, **changes: npt.NDArray[Any]) -> None:
    arrays: dict[str, Any] = {"imgs": np.zeros((4, 8, 8), np.uint8)}
    arrays["latents_values"] = np.ones((4, 6))
    np.savez(path, **arrays | changes)


def giant(path: Path) -> None:
    """An archive whose header promises larger images than any disk holds."""
    dsprites_with(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (4, 10**7, 10**7)}
    )
    with zipfile.ZipFile(path) as archive:
        latents = archive.read("latents_values.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("imgs.npy", header.getvalue())
        archive.writestr("latents_values.npy", latents)


def flipped(path: Path) -> None:
    """An archive with one bit wrong, in the middle of its images."""
    dsprites_with(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"imgs.npy") + 200] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.touch(), "No data left in file"),
        (lambda path: path.write_bytes(b"<html>"), "pickle|can't be used"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: np.savez(path, images=np.zeros((4, 8, 8), np.uint8)), "latents_values"),
        (lambda path: np.savez(path, latents_values=np.ones((4, 6))), "imgs"),
        (lambda path: dsprites_with(path, latents_values=np.ones((4, 5))), r"\(4, 5\)"),
        (lambda path: dsprites_with(path, latents_values=np.full((4, 6), 9.0)), "not dSprites'"),
        (
            lambda path: dsprites_with(path, latents_values=np.ones((3, 6))),
            "4 images where 3 belong",
        ),
        (lambda path: dsprites_with(path, imgs=np.zeros((4, 8, 8))), "imgs.* is float64"),
        (lambda path: dsprites_with(path, imgs=np.full((4, 8, 8), 7, np.uint8)), "level 7 above 1"),
        (lambda path: dsprites_with(path, imgs=np.array([Bomb()] * 4, dtype=object)), "is object"),
        (flipped, "CRC"),
    ],
)
def test_files_that_are_not_dsprites(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "some.npz"
    make(path)
    with pytest.raises(ValueError, match=reason) as caught:
        open_source(f"dsprites:{path}")
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text and "github.com/google-deepmind/dsprites-dataset" in text
    assert not [*tmp_path.glob("*.unpacked.npy"), *tmp_path.glob(".*.partial")]


def test_too_much_for_the_disk(tmp_path: Path) -> None:
    giant(tmp_path / "giant.npz")
    with pytest.raises(ValueError, match=r"400000.0 GB are needed.*copy the data into a folder"):
        open_source(f"dsprites:{tmp_path / 'giant.npz'}")


@pytest.mark.parametrize("data", ["dsprites", "shapes3d:", "mpi3d:nowhere.npz", "mpi3d:none:toy"])
def test_missing_files_are_asked_for(data: str) -> None:
    with pytest.raises(ValueError, match=r"no such file.*give .*FILE.*github\.com"):
        open_source(data)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (
            {"images": np.zeros((4, 8, 8, 3), np.uint8)},
            r"holds \['images'\], not images and labels",
        ),
        ({"images": np.zeros((4, 8, 8, 3)), "labels": np.ones((4, 6))}, "images are float64"),
        (
            {"images": np.zeros((4, 8, 8, 3), np.uint8), "labels": np.ones((4, 5))},
            "are not six factors",
        ),
    ],
)
def test_files_that_are_not_shapes3d(
    tmp_path: Path, arrays: dict[str, npt.NDArray[Any]], reason: str
) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "some.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    with pytest.raises(ValueError, match=reason):
        open_source(f"shapes3d:{tmp_path / 'some.h5'}")


def test_a_damaged_h5(shapes3d: tuple[Path, npt.NDArray[Any], npt.NDArray[Any]]) -> None:
    path = shapes3d[0]
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"3dshapes.h5' can't be used .*give shapes3d:FILE"):
        open_source(f"shapes3d:{path}")
