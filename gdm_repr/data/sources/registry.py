"""Where images come from: folders, zips, arrays, data sets' own files, what is built in.

A source hands out decoded pixels, ids that are unique and never absolute, and label columns; what
becomes of them is the business of `gdm_repr.data`. A new built-in is one function and one row of
`BUILT_IN`; a new kind of file is one row of `BY_SUFFIX`.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from gdm_repr.data.images import Pixels, Preprocess
from gdm_repr.data.labels import Labels
from gdm_repr.data.sources.arrays import ArraySource, open_npy, open_npz
from gdm_repr.data.sources.cars3d_smallnorb import open_cars3d, open_smallnorb
from gdm_repr.data.sources.factor_grids import open_dsprites, open_mpi3d, open_shapes3d
from gdm_repr.data.sources.files import (
    IMAGE_SUFFIXES,
    READABLE,
    FileSource,
    ZipSource,
    files_below,
    open_folder,
)
from gdm_repr.data.sources.parquet import ParquetSource, open_parquet
from gdm_repr.data.sources.scenes import open_scenes
from gdm_repr.data.sources.torchvision_files import open_torchvision
from gdm_repr.data.sources.webdataset import TarSource, open_tar
from gdm_repr.files import user_path

# The photographs that ship inside scikit-image's package. Left out: drawings and renderings, the
# silhouette `horse`, the computed `cell`, and `motorcycle_right`, a near copy of the left one.
_PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "microaneurysms.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)


class Source(Protocol):
    """Images that can be asked for by number.

    Attributes:
        name: Short name, for the column `source`; never an absolute path.
        ids: One unique name per image.
        labels: Columns of one value per image.
        levels: Highest integer level, 0 for float pixels; None: 255 or 65535, by the dtype.
    """

    name: str
    ids: list[str]
    labels: Labels
    levels: int | None

    def pixels(self, index: int, preprocess: Preprocess) -> Pixels:
        """Return the decoded image (H, W, C); raise BadImage with the reason if there is none."""

    def size(self, index: int, preprocess: Preprocess) -> tuple[int, int]:
        """Return (H, W) of an image, from its header where it has one; raise BadImage."""

    def content(self) -> Iterator[bytes]:
        """Yield bytes that change when the images do, for the fingerprint."""


def open_digits(argument: str) -> Source:
    """Open scikit-learn's 1,797 handwritten digits: 8x8, gray, levels 0..16, label `digit`."""
    _no_argument("digits", argument)
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels: Labels = {"digit": digits.target.tolist()}
    return ArraySource("digits", digits.images.astype(np.uint8), labels, levels=16)


def open_photos(argument: str) -> Source:
    """Open the photographs that ship with scikit-image: colour and gray, of many sizes."""
    _no_argument("photos", argument)
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ValueError(
            "data 'photos' are scikit-image's own, which is not installed; "
            "pip install scikit-image, or give a folder of images"
        )
    return FileSource("photos", Path(spec.origin).parent / "data", _PHOTOS, {})


def open_cifar10(argument: str, *, train: bool) -> Source:
    """Open CIFAR-10's own files (python version): 32x32 RGB, labels `label` (0..9) and `class`.

    torchvision checks their MD5 before it reads them; nothing is downloaded.
    """
    from torchvision.datasets import CIFAR10

    split = "train" if train else "test"
    name = "cifar10" if train else "cifar10-test"
    try:
        cifar = CIFAR10(user_path(argument), train=train) if argument else None
    except RuntimeError:
        cifar = None
    if cifar is None:
        raise ValueError(
            f"data '{name}:{argument}' finds no intact CIFAR-10 files; give {name}:FOLDER, where "
            f"FOLDER holds the unpacked {CIFAR10.base_folder} (python version)"
        )
    ids = [f"{split}/{i:05d}" for i in range(len(cifar.data))]
    labels: Labels = {
        "label": [int(target) for target in cifar.targets],
        "class": [cifar.classes[target] for target in cifar.targets],
    }
    return ArraySource(name, cifar.data, labels, ids=ids)


def _cifar10_train(argument: str) -> Source:
    """Open CIFAR-10's training images: 50,000 of 32x32 RGB, labels `label` and `class`."""
    return open_cifar10(argument, train=True)


def _cifar10_test(argument: str) -> Source:
    """Open CIFAR-10's test images: 10,000 of 32x32 RGB, labels `label` and `class`."""
    return open_cifar10(argument, train=False)


BUILT_IN: dict[str, Callable[[str], Source]] = {
    "digits": open_digits,
    "photos": open_photos,
    "scenes": open_scenes,
    "cifar10": _cifar10_train,
    "cifar10-test": _cifar10_test,
    "dsprites": open_dsprites,
    "shapes3d": open_shapes3d,
    "mpi3d": open_mpi3d,
    "cars3d": open_cars3d,
    "smallnorb": open_smallnorb,
    "torchvision": open_torchvision,
}
"""Sources by name; what follows a colon, as in ``cifar10:FOLDER``, is their argument."""

BY_SUFFIX: dict[str, Callable[[Path], Source]] = {
    ".zip": ZipSource,
    ".npy": open_npy,
    ".npz": open_npz,
    ".parquet": open_parquet,
    ".tar": open_tar,
}
"""Sources by suffix of a file; a folder and a single image file need no row."""

SHARDS: dict[str, Callable[[str, Path, list[str]], Source]] = {
    ".parquet": ParquetSource,
    ".tar": TarSource,
}
"""Sources of many files in a folder, by their suffix: of name, folder and relative paths."""


def open_source(data: str | Path) -> Source:
    """Open a built-in source by name, or a path.

    Args:
        data: A key of `BUILT_IN` (a string; write ``./digits`` for a folder of that name), a
            folder, an image file, or a file whose suffix is in `BY_SUFFIX`.

    Raises:
        ValueError: There is no such data, or it can't be opened as a whole.
    """
    if isinstance(data, str):
        name, _, argument = data.partition(":")
        if name in BUILT_IN:
            return BUILT_IN[name](argument)
    source = _open_path(data)
    if not source.ids:
        raise ValueError(
            f"data {str(data)!r} holds no images; what counts are files that end in "
            f"{', '.join(sorted(READABLE))}, and {', '.join(SHARDS)} with images inside"
        )
    return source


def _open_path(data: str | Path) -> Source:
    """Open what a path names."""
    path = user_path(data)
    if path.is_dir():
        return _open_folder(path)
    if path.is_file():
        opener = BY_SUFFIX.get(path.suffix.lower())
        if opener is not None:
            return opener(path)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return FileSource(path.name, path.parent, [path.name], {})
        if re.search(r"\.(tgz|tar\.\w+)$", path.name.lower()):
            raise ValueError(
                f"data {str(data)!r} is a compressed tar, in which no image can be found without "
                "unpacking all before it; uncompress it (gunzip), and give the .tar"
            )
        kinds = ", ".join(BY_SUFFIX)
        raise ValueError(
            f"data {str(data)!r} is a file of an unknown kind; give an image, a folder, or one of "
            f"{kinds}"
        )
    beside = os.listdir(path.parent) if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, [*BUILT_IN, *beside], n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise ValueError(
        f"data {str(data)!r} is neither a path that exists nor one of {', '.join(BUILT_IN)}.{hint}"
    )


def _open_folder(path: Path) -> Source:
    """Open a folder: of images, or where there are none, of files that hold many."""
    images = open_folder(path)
    if not images.ids:
        for suffix, opener in SHARDS.items():
            if files := files_below(path, (suffix,)):
                return opener(images.name, path, files)
    return images


def refuse_inside(out: Path, data: str | None) -> None:
    """Refuse to write into a folder of images, which would take ours for its own the next time.

    Args:
        out: folder to be written to.
        data: as :func:`open_source` takes it; None is none.

    Raises:
        ValueError: ``out`` lies in the folder ``data``, or is it.
    """
    if data is None or data.partition(":")[0] in BUILT_IN:
        return
    source = Path(data).expanduser()
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"--out {str(out)!r}: lies in the folder of --data, whose images would then be "
            "its own; choose a folder outside"
        )


def _no_argument(name: str, argument: str) -> None:
    if argument:
        raise ValueError(f"data '{name}:{argument}': {name} takes no argument; write {name}")
