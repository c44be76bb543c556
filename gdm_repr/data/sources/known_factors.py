"""What sources with known factors share: order, label columns, and one error for all that fails.

**Order.** These data sets run through their factors one after the other: their first thousand
images are one shape in one colour. So the images come in a fixed random order, the same on every
machine, and ``--limit N`` takes a random sample. An id gives the image's number in the file.

**Types.** A factor that has names is a column of str, one that counts or steps is int, one that
divides a continuum is float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gdm_repr.data.dequantize import uniform
from gdm_repr.data.labels import Label, Labels
from gdm_repr.data.sources.arrays import ArraySource
from gdm_repr.data.sources.unpacked import NoRoom
from gdm_repr.files import user_path

Column = npt.NDArray[Any]


def factor_source(
    name: str,
    images: npt.NDArray[Any],
    factors: Mapping[str, Column],
    ids: Sequence[str] | None = None,
) -> ArraySource:
    """Make a source of images with known factors, in a fixed random order.

    Args:
        name: Name of the source.
        images: (N, H, W) or (N, H, W, C), uint8; a memory map is not read.
        factors: One value per image in every column, in the order of `images`.
        ids: One name per image, in the order of `images`; the default is its number.

    Raises:
        ValueError: A column has another length.
    """
    count = len(images)
    if ids is None:
        width = max(6, len(str(count - 1)))
        ids = [f"{i:0{width}d}" for i in range(count)]
    for factor, column in factors.items():
        if len(column) != count:
            raise ValueError(f"{count} images but {len(column)} values of {factor!r}")
    order = np.argsort(uniform(ids, 1, seed=0, draw=0, bits=52)[:, 0], kind="stable")
    labels: Labels = {factor: _values(column[order]) for factor, column in factors.items()}
    return ArraySource(name, images, labels, ids=[ids[i] for i in order.tolist()], rows=order)


@contextmanager
def opening(data: str, expected: str) -> Iterator[None]:
    """Turn whatever a missing, foreign or damaged file raises into one line.

    Args:
        data: What the user gave.
        expected: What it must be and where to get it.

    Raises:
        ValueError: Anything was raised inside, but for want of memory or room.
    """
    try:
        yield
    except (MemoryError, NoRoom):
        raise
    except Exception as error:  # a broken archive makes its reader raise anything
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = " ".join(str(text).split())[:160]
        raise ValueError(f"data {data!r} can't be used ({reason}); {expected}") from error


def existing_file(argument: str) -> Path:
    """Return the path of a file.

    Raises:
        ValueError: It is not there.
    """
    path = user_path(argument)
    if not argument or not path.is_file():
        raise ValueError("no such file")
    return path


def existing_folder(argument: str) -> Path:
    """Return the path of a folder.

    Raises:
        ValueError: It is not there.
    """
    path = user_path(argument)
    if not argument or not path.is_dir():
        raise ValueError("no such folder")
    return path


def _values(column: Column) -> list[Label]:
    """Return a column as a list whose equal values are one object: a million rows stay small."""
    distinct, codes = np.unique(column, return_inverse=True)
    table: list[Label] = distinct.tolist()
    return [table[code] for code in codes.tolist()]
