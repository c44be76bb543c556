"""Cars3D and SmallNORB: small files of the real formats give their images and factors."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.io import savemat

from gdm_repr.data.images import Preprocess
from gdm_repr.data.sources.arrays import ArraySource
from gdm_repr.data.sources.registry import open_source

RNG = np.random.default_rng(0)
PLAIN = Preprocess()
NAMES = ("car_001_mesh", "car_002_mesh", "car_010_mesh")


def opened(data: str) -> ArraySource:
    source = open_source(data)
    assert isinstance(source, ArraySource)
    return source


@pytest.fixture
def cars(tmp_path: Path) -> dict[str, npt.NDArray[Any]]:
    """Three cars, 8x8, as Matlab wrote them: (H, W, 3, 24 azimuths, 4 elevations)."""
    meshes = {name: RNG.integers(0, 256, (8, 8, 3, 24, 4), dtype=np.uint8) for name in NAMES}
    (tmp_path / "data" / "cars").mkdir(parents=True)
    for name, mesh in meshes.items():
        savemat(tmp_path / "data" / "cars" / f"{name}.mat", {"im": mesh}, do_compression=True)
    return meshes


@pytest.mark.parametrize("below", [".", "data", "data/cars"])
def test_cars3d(tmp_path: Path, cars: dict[str, npt.NDArray[Any]], below: str) -> None:
    source = opened(f"cars3d:{tmp_path / below}")
    assert list(source.labels) == ["elevation", "azimuth", "car"]
    assert len(source.ids) == len(set(source.ids)) == 3 * 24 * 4
    assert len(set(source.labels["car"][:20])) == 3  # mixed, whatever the order of the files
    views = zip(source.ids, *source.labels.values(), strict=True)
    for index, (name, elevation, azimuth, car) in enumerate(views):
        assert isinstance(elevation, int) and isinstance(azimuth, int) and isinstance(car, str)
        assert name == f"{car}/a{azimuth:02d}e{elevation}"
        expected = cars[car][..., azimuth, elevation]
        np.testing.assert_array_equal(source.pixels(index, PLAIN), expected)


def write_matrix(path: Path, array: npt.NDArray[Any]) -> None:
    """Write SmallNORB's format: magic number, axes, sizes padded to three, values."""
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54, "float32": 0x1E3D4C51}[array.dtype.name]
    sizes = [*array.shape, *[1] * (3 - array.ndim)]
    data = struct.pack(f"<{2 + len(sizes)}i", magic, array.ndim, *sizes) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture(params=["", ".gz"])
def norb(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Both splits, 30 and 20 pairs 12x12."""
    splits: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for split, count in (
        ("5x46789x9x18x6x2x96x96-training", 30),
        ("5x01235x9x18x6x2x96x96-testing", 20),
    ):
        info = RNG.integers(0, [10, 9, 18, 6], (count, 4), dtype=np.int32)
        info[:, 2] *= 2
        splits[split] = {
            "dat": RNG.integers(0, 256, (count, 2, 12, 12), dtype=np.uint8),
            "cat": RNG.integers(0, 5, count, dtype=np.int32),
            "info": info,
        }
        for kind, array in splits[split].items():
            write_matrix(tmp_path / f"smallnorb-{split}-{kind}.mat{request.param}", array)
    return splits


def test_smallnorb(
    tmp_path: Path,
    norb: dict[str, dict[str, npt.NDArray[Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "gdm_repr.data.sources.unpacked.BLOCK_BYTES", 7 * 2 * 12 * 12
    )  # several blocks a file
    source = opened(f"smallnorb:{tmp_path}")
    assert len(source.ids) == len(set(source.ids)) == 50
    factors = ["category", "instance", "elevation", "azimuth", "lighting"]
    assert list(source.labels) == ["split", *factors]
    categories = ["animal", "human", "airplane", "truck", "car"]
    train, test = norb.values()
    for index, name in enumerate(source.ids):
        split, _, number = name.partition("/")
        arrays = {"train": train, "test": test}[split]
        row = int(number)
        np.testing.assert_array_equal(
            source.pixels(index, PLAIN)[..., 0],
            arrays["dat"][row, 0],  # the left one
        )
        instance, elevation, azimuth, lighting = arrays["info"][row].tolist()
        expected = [instance, range(30, 75, 5)[elevation], range(0, 360, 10)[azimuth], lighting]
        assert source.labels["split"][index] == split
        assert [source.labels[factor][index] for factor in factors] == [
            categories[arrays["cat"][row]],
            *expected,
        ]


@pytest.mark.parametrize("data", ["cars3d", "cars3d:nowhere", "smallnorb:", "smallnorb:/no/where"])
def test_missing_folders_are_asked_for(data: str) -> None:
    with pytest.raises(ValueError, match=r"no such folder.*FOLDER holding .*(scottreed|nyu\.edu)"):
        open_source(data)


def test_folders_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \.mat files.*give cars3d:FOLDER"):
        open_source(f"cars3d:{tmp_path}")
    with pytest.raises(ValueError, match=r"no file smallnorb-\*-training-dat\.mat.*give smallnorb"):
        open_source(f"smallnorb:{tmp_path}")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b"MATLAB"), "car_010_mesh.mat holds no array 'im'"),
        (lambda path: savemat(path, {"image": np.zeros(3)}), "holds no array 'im'"),
        (lambda path: savemat(path, {"im": np.zeros((8, 8, 3, 24, 4))}), "'im' is float64"),
        (lambda path: savemat(path, {"im": np.zeros((8, 8, 3, 24), np.uint8)}), "of shape"),
        (
            lambda path: savemat(path, {"im": np.zeros((9, 8, 3, 24, 4), np.uint8)}),
            r"\(9, 8, 3\) among uint8 \(8, 8, 3\)",
        ),
        (lambda path: savemat(path, {"im": np.zeros((8, 8, 3, 23, 4), np.uint8)}), "284 of 288"),
    ],
)
@pytest.mark.usefixtures("cars")
def test_files_that_are_not_cars3d(
    tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    folder = tmp_path / "data" / "cars"
    spoil(folder / "car_010_mesh.mat")
    with pytest.raises(ValueError, match=reason) as caught:
        open_source(f"cars3d:{folder}")
    assert "\n" not in str(caught.value)
    assert not [*folder.glob("*.unpacked.npy"), *folder.glob(".*.partial")]


@pytest.mark.parametrize(
    ("kind", "array", "reason"),
    [
        ("dat", np.zeros((20, 2, 12, 12), np.int32), "is int32"),
        ("dat", np.zeros((20, 2, 12, 12), np.float32), "does not begin as SmallNORB's"),
        ("dat", np.zeros((20, 2, 11, 12), np.uint8), r"\(12, 12\) and \(11, 12\)"),
        ("dat", np.zeros((19, 2, 12, 12), np.uint8), "49 images where 50 belong"),
        ("cat", np.full(20, 5, np.int32), "categories 5 to 5, not 0 to 4"),
        ("info", np.zeros((20, 3), np.int32), r"info \(20, 3\)"),
    ],
)
@pytest.mark.parametrize("norb", [""], indirect=True)
@pytest.mark.usefixtures("norb")
def test_files_that_are_not_smallnorb(
    tmp_path: Path, kind: str, array: npt.NDArray[Any], reason: str
) -> None:
    write_matrix(tmp_path / f"smallnorb-5x01235x9x18x6x2x96x96-testing-{kind}.mat", array)
    with pytest.raises(ValueError, match=reason):
        open_source(f"smallnorb:{tmp_path}")


@pytest.mark.parametrize("kind", ["dat", "cat", "info"])
@pytest.mark.usefixtures("norb")
def test_files_that_end_too_soon(tmp_path: Path, kind: str) -> None:
    (path,) = tmp_path.glob(f"*-testing-{kind}.mat*")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"can't be used .*give smallnorb:FOLDER"):
        open_source(f"smallnorb:{tmp_path}")
    assert not [*tmp_path.glob("*.unpacked.npy"), *tmp_path.glob(".*.partial")] or kind != "dat"
