"""Data sets with known factors that come as one file: dSprites, 3D Shapes, MPI3D.

Nothing is unpickled: dSprites' metadata, the one pickled array among them, is not looked at.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from gdm_repr.boundary.npy_file import read_npz
from gdm_repr.data.sources.arrays import ArraySource
from gdm_repr.data.sources.known_factors import Column, existing_file, factor_source, opening
from gdm_repr.data.sources.unpacked import Images, Packed, rows_at_once, unpack

_DSPRITES_SHAPES = ("square", "ellipse", "heart")
_SHAPES3D_FACTORS = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")

_SIMPLE: dict[str, tuple[str, ...]] = {
    "object_color": ("white", "green", "red", "blue", "brown", "olive"),
    "object_shape": ("cone", "cube", "cylinder", "hexagonal", "pyramid", "sphere"),
}
_COMPLEX: dict[str, tuple[str, ...]] = {
    "object_color": ("yellow", "green", "olive", "red"),
    "object_shape": ("coffee cup", "tennis ball", "croissant", "beer cup"),
}
_MPI3D_REST: dict[str, tuple[str, ...] | range] = {
    "object_size": ("small", "large"),
    "camera_height": ("top", "center", "bottom"),
    "background_color": ("purple", "sea green", "salmon"),
    "horizontal_axis": range(40),
    "vertical_axis": range(40),
}
MPI3D_VARIANTS = {
    "toy": _SIMPLE,
    "realistic": _SIMPLE,
    "real": _SIMPLE,
    "complex": _COMPLEX,
}
"""Colours and shapes of the objects in MPI3D's files."""


def open_dsprites(argument: str) -> ArraySource:
    """Open dSprites: 737,280 white shapes on black, 64x64, of five factors (Matthey et al., 2017).

    Labels: `shape` (square, ellipse, heart), `scale` (.5 to 1), `orientation` (0 to 2 pi, in
    radians), `x` and `y` (0 to 1). The sixth factor, colour, is white throughout and left out. The
    file's levels 0 and 1 become 0 and 255, so that resampling leaves soft edges.

    Args:
        argument: Path of ``dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz``.

    Raises:
        ValueError: The file is missing, damaged, or another.
    """
    expected = (
        "give dsprites:FILE, FILE being dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz from "
        "github.com/google-deepmind/dsprites-dataset"
    )
    with opening(f"dsprites:{argument}", expected):
        path = existing_file(argument)
        latents = read_npz(path, ("latents_values",))[0]["latents_values"]
        if latents.ndim != 2 or latents.shape[1] != 6 or latents.dtype.kind != "f":
            raise ValueError(f"latents_values of shape {latents.shape} are not dSprites'")
        shape = latents[:, 1].astype(int) - 1
        if not set(shape) <= {0, 1, 2}:
            raise ValueError(f"latents_values of shape {latents.shape} are not dSprites'")
        names = ("scale", "orientation", "x", "y")
        factors = {"shape": np.array(_DSPRITES_SHAPES)[shape]}
        factors |= dict(zip(names, latents[:, 2:].T, strict=True))
        read = partial(_read_npz, path, "imgs", axes=3, factor=255)
        images = unpack(path.with_name(f"{path.name}.imgs"), [path], read, {len(latents)})
        return factor_source("dsprites", images, factors)


def open_shapes3d(argument: str) -> ArraySource:
    """Open 3D Shapes: 480,000 images 64x64 RGB of six factors (Burgess and Kim, 2018).

    Labels: `floor_hue`, `wall_hue`, `object_hue` (0 to .9), `scale` (.75 to 1.25), `shape` (0 to 3)
    and `orientation` (-30 to 30 degrees).

    Args:
        argument: Path of ``3dshapes.h5``.

    Raises:
        ValueError: The file is missing, damaged, or another, or h5py is not installed.
    """
    expected = (
        "give shapes3d:FILE, FILE being 3dshapes.h5, to which "
        "github.com/google-deepmind/3d-shapes leads"
    )
    with opening(f"shapes3d:{argument}", expected):
        path = existing_file(argument)
        try:
            import h5py
        except ImportError:
            raise ValueError("h5py is not installed: pip install 'gdm-repr[h5]'") from None
        with h5py.File(path, "r") as file:
            if not {"images", "labels"} <= set(file):
                raise ValueError(f"it holds {sorted(file)}, not images and labels")
            labels: npt.NDArray[np.float64] = file["labels"][()]
        if labels.ndim != 2 or labels.shape[1] != len(_SHAPES3D_FACTORS):
            raise ValueError(f"labels of shape {labels.shape} are not six factors")
        factors: dict[str, Column] = dict(zip(_SHAPES3D_FACTORS, labels.T, strict=True))
        factors["shape"] = factors["shape"].astype(int)
        place, read = path.with_name(f"{path.name}.images"), partial(_read_h5, path)
        images = unpack(place, [path], read, {len(labels)})
        return factor_source("shapes3d", images, factors)


def open_mpi3d(argument: str) -> ArraySource:
    """Open MPI3D: images 64x64 RGB of seven factors (Gondal et al., 2019).

    The file holds images only; their factors follow from their order. Labels: `object_color`,
    `object_shape`, `object_size`, `camera_height`, `background_color` by name, `horizontal_axis`
    and `vertical_axis` 0 to 39. The variants toy, realistic and real have 1,036,800 images of the
    same factors; complex has 460,800, of other colours and shapes.

    Args:
        argument: Path of the `.npz`, and after a colon the variant where it is to be checked.

    Raises:
        ValueError: The file is missing, damaged, or another, or not of the variant.
    """
    expected = (
        f"give mpi3d:FILE or mpi3d:FILE:VARIANT with a variant of {', '.join(MPI3D_VARIANTS)}, "
        "FILE being a .npz of github.com/rr-learning/disentanglement_dataset"
    )
    with opening(f"mpi3d:{argument}", expected):
        name, _, variant = argument.rpartition(":")
        if variant not in MPI3D_VARIANTS:
            name, variant = argument, ""
        path = existing_file(name)
        variants = [variant] if variant else list(MPI3D_VARIANTS)
        tables = [{**MPI3D_VARIANTS[known], **_MPI3D_REST} for known in variants]
        by_count = {math.prod(map(len, table.values())): table for table in tables}
        read = partial(_read_npz, path, "images", axes=4)
        images = unpack(path.with_name(f"{path.name}.images"), [path], read, by_count)
        values = by_count[len(images)]
        # The last factor runs fastest.
        index = np.unravel_index(np.arange(len(images)), tuple(map(len, values.values())))
        factors = {
            factor: np.array(some)[code]
            for (factor, some), code in zip(values.items(), index, strict=True)
        }
        return factor_source("mpi3d", images, factors)


def _read_npz(path: Path, key: str, axes: int, factor: int = 1) -> Packed:
    """Describe one array of a `.npz`, to be read as a stream; its values times `factor` are levels.

    Nothing stays open until the first block is asked for.
    """

    def header(file: IO[bytes]) -> tuple[int, ...]:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file)
        if dtype != np.uint8 or len(shape) != axes or fortran:
            raise ValueError(f"{key!r} is {dtype} of shape {shape}, not uint8 of {axes} axes")
        return tuple(shape)

    def blocks() -> Iterator[Images]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            shape = header(file)
            row = math.prod(shape[1:])
            # Reading to the end makes zipfile compare the checksum.
            while data := file.read(rows_at_once(row) * row):
                block = np.frombuffer(data, np.uint8).reshape(-1, *shape[1:])
                highest = int(block.max())
                if highest * factor > 255:
                    raise ValueError(f"level {highest} above {255 // factor}")
                yield block * np.uint8(factor)

    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
        return Packed(header(file), blocks())


def _read_h5(path: Path) -> Packed:
    """Describe the images of 3D Shapes; whole chunks are read, for each is compressed by itself."""
    import h5py

    def blocks() -> Iterator[Images]:
        with h5py.File(path, "r") as file:
            images = file["images"]
            deep = images.chunks[0] if images.chunks else 1
            step = -(-rows_at_once(math.prod(images.shape[1:])) // deep) * deep
            for start in range(0, len(images), step):
                yield images[start : start + step]

    with h5py.File(path, "r") as file:
        images = file["images"]
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"images are {images.dtype} of shape {images.shape}")
        return Packed(images.shape, blocks())
