"""Data sets with known factors that come as several files: Cars3D, SmallNORB."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from gdm_repr.data.sources.arrays import ArraySource
from gdm_repr.data.sources.known_factors import Column, existing_folder, factor_source, opening
from gdm_repr.data.sources.unpacked import Images, Packed, rows_at_once, unpack

_CARS_FOLDERS = (".", "cars", "data/cars")  # where the .mat files lie in what the tar unpacks to
_ELEVATIONS = 4
_CATEGORIES = ("animal", "human", "airplane", "truck", "car")
# SmallNORB's own `.mat` is not Matlab's: a magic number that tells the type, then the sizes.
_NORB_TYPES: dict[int, np.dtype[Any]] = {0x1E3D4C55: np.dtype("u1"), 0x1E3D4C54: np.dtype("<i4")}
_MOST_NORB = 1 << 31  # values of a file
_NORB_SPLITS = {"train": "training", "test": "testing"}


def open_cars3d(argument: str) -> ArraySource:
    """Open Cars3D: 183 cars, 128x128 RGB, from 4 elevations and 24 azimuths (Reed et al., 2015).

    Labels: `elevation` (0 to 3) and `azimuth` (0 to 23) as steps, `car` (the file's name).

    Args:
        argument: Folder of the `.mat` files, or one that holds it as ``cars`` or ``data/cars``.

    Raises:
        ValueError: The files are missing, damaged, or others.
    """
    expected = (
        "give cars3d:FOLDER, FOLDER holding the unpacked cars/*.mat of "
        "www.scottreed.info/files/nips2015-analogy-data.tar.gz"
    )
    with opening(f"cars3d:{argument}", expected):
        root = existing_folder(argument)
        found = (sorted((root / folder).glob("*.mat")) for folder in _CARS_FOLDERS)
        files = next((some for some in found if some), None)
        if files is None:
            raise ValueError("no .mat files")
        images = unpack(root / "cars3d", files, partial(_read_cars, files))
        views = len(images) // len(files)
        # Within a file the elevation runs fastest; see _car.
        view = np.arange(len(images)) % views
        factors: dict[str, Column] = {
            "elevation": view % _ELEVATIONS,
            "azimuth": view // _ELEVATIONS,
            "car": np.repeat([file.stem for file in files], views),
        }
        ids = [
            f"{car}/a{azimuth:02d}e{elevation}"
            for elevation, azimuth, car in zip(*factors.values(), strict=True)
        ]
        return factor_source("cars3d", images, factors, ids)


def _read_cars(files: Sequence[Path]) -> Packed:
    first = _car(files[0])
    return Packed((len(files) * len(first), *first.shape[1:]), map(_car, files))


def _car(file: Path) -> Images:
    """Return all views of one car, (azimuths * elevations, H, W, 3)."""
    from scipy.io import loadmat

    try:
        images: npt.NDArray[Any] = loadmat(file)["im"]  # (H, W, 3, azimuths, elevations)
    except Exception as error:  # a broken file makes it raise anything
        raise ValueError(f"{file.name} holds no array 'im': {error}") from error
    if images.dtype != np.uint8 or images.ndim != 5 or images.shape[4] != _ELEVATIONS:
        raise ValueError(f"{file.name}: 'im' is {images.dtype} of shape {images.shape}")
    return images.transpose(3, 4, 0, 1, 2).reshape(-1, *images.shape[:3])


def open_smallnorb(argument: str) -> ArraySource:
    """Open SmallNORB: 48,600 gray photographs of 50 toys, 96x96 (LeCun et al., 2004).

    Of every stereo pair it is the first image, as in the field's papers. Labels: `split` (train,
    test), `category` (animal, human, airplane, truck, car), `instance` (0 to 9, of its category),
    `elevation` (30 to 70 degrees), `azimuth` (0 to 340 degrees), `lighting` (0 to 5). The splits
    hold different instances.

    Args:
        argument: Folder of the six ``smallnorb-*.mat`` files, gzipped (``.mat.gz``) or not.

    Raises:
        ValueError: The files are missing, damaged, or others.
    """
    expected = (
        "give smallnorb:FOLDER, FOLDER holding the -dat, -cat and -info files, .mat or .mat.gz, of "
        "training and testing from cs.nyu.edu/~ylclab/data/norb-v1.0-small"
    )
    with opening(f"smallnorb:{argument}", expected):
        root = existing_folder(argument)
        files = [_norb_file(root, split, "dat") for split in _NORB_SPLITS]
        parts = [_norb_factors(root, split) for split in _NORB_SPLITS]
        factors = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        count = len(factors["split"])
        images = unpack(root / "smallnorb", files, partial(_read_norb, files), {count})
        ids = [f"{split}/{i:05d}" for part in parts for i, split in enumerate(part["split"])]
        return factor_source("smallnorb", images, factors, ids)


def _norb_file(root: Path, split: str, kind: str) -> Path:
    pattern = f"smallnorb-*-{_NORB_SPLITS[split]}-{kind}.mat"
    files = [*root.glob(pattern), *root.glob(f"{pattern}.gz")]
    if not files:
        raise ValueError(f"no file {pattern} or {pattern}.gz")
    return files[0]


def _norb_factors(root: Path, split: str) -> dict[str, Column]:
    category, info = (_norb_array(_norb_file(root, split, kind)) for kind in ("cat", "info"))
    if category.ndim != 1 or info.shape != (len(category), 4):
        raise ValueError(f"{split}: categories of shape {category.shape}, info {info.shape}")
    if category.size and not 0 <= category.min() <= category.max() < len(_CATEGORIES):
        raise ValueError(f"{split}: categories {category.min()} to {category.max()}, not 0 to 4")
    return {
        "split": np.full(len(category), split),
        "category": np.array(_CATEGORIES)[category],
        "instance": info[:, 0],
        "elevation": 30 + 5 * info[:, 1],
        "azimuth": 10 * info[:, 2],
        "lighting": info[:, 3],
    }


def _read_norb(files: Sequence[Path]) -> Packed:
    shapes = []
    for path in files:
        with _norb_open(path) as file:
            dtype, shape = _norb_header(file, path)
        if dtype != np.uint8 or len(shape) != 4:
            raise ValueError(f"{path.name} is {dtype} of shape {shape}, not pairs of images")
        shapes.append(shape)
    if shapes[0][1:] != shapes[1][1:]:
        raise ValueError(f"images of shapes {shapes[0][2:]} and {shapes[1][2:]}")

    def blocks() -> Iterator[Images]:
        for path, shape in zip(files, shapes, strict=True):
            pair = int(np.prod(shape[1:]))
            with _norb_open(path) as file:
                _norb_header(file, path)
                while data := file.read(rows_at_once(pair) * pair):
                    yield np.frombuffer(data, np.uint8).reshape(-1, *shape[1:])[:, 0]

    return Packed((sum(shape[0] for shape in shapes), *shapes[0][2:]), blocks())


def _norb_array(path: Path) -> npt.NDArray[Any]:
    with _norb_open(path) as file:
        dtype, shape = _norb_header(file, path)
        count = math.prod(shape)  # one byte more than it needs tells a longer file
        values: npt.NDArray[Any] = np.frombuffer(file.read(count * dtype.itemsize + 1), dtype)
    if values.size != count:
        raise ValueError(f"{path.name} holds {values.size} of {count} values")
    return values.reshape(shape)


def _norb_open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _norb_header(file: IO[bytes], path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Read type and shape: magic number, number of axes, their sizes padded to three."""
    magic, axes = np.frombuffer(file.read(8), "<i4").tolist()
    if magic not in _NORB_TYPES or not 1 <= axes <= 4:
        raise ValueError(f"{path.name} does not begin as SmallNORB's files do")
    sizes = np.frombuffer(file.read(4 * max(3, axes)), "<i4").tolist()
    if min(sizes[:axes]) < 0 or math.prod(sizes[:axes]) > _MOST_NORB:
        raise ValueError(f"{path.name} says to hold {sizes[:axes]} values")
    return _NORB_TYPES[magic], tuple(sizes[:axes])
