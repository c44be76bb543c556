"""Images in arrays: `.npy`, `.npz`, and what other sources hold in memory.

Shapes (N, H, W), (N, H, W, C) or (N, C, H, W). C is 1 or 3; or 2, or 5 to 64, channels without
colour, of images larger than that. Four channels are refused, for they are mostly RGBA. Values are
uint8 (0..255), uint16 (0..65535) or float. **Range of floats**: images that are finite and within
[-1, 1] count; if any of them holds a negative value the array's range is [-1, 1], else it is
[0, 1]. The others are rejected one by one. Nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gdm_repr.boundary.npy_file import map_npy, read_npz
from gdm_repr.data.images import COLOURS, BadImage, Pixels, Preprocess
from gdm_repr.data.labels import Label, Labels

_Array = npt.NDArray[Any]
_MANY_CHANNELS = (2, *range(5, 65))  # that are no colours, nor colours with alpha
_CHUNK = 1 << 24  # numbers looked at together
_HASHED_IMAGES = 1024
_IMAGE_KEYS = ("images", "x")
_LABEL_KEYS = ("labels", "y")
_MAX_COLUMNS = 64  # of a label array (N, K); wider ones are no labels


class ArraySource:
    """Images (N, H, W), (N, H, W, C) or (N, C, H, W) of one dtype."""

    def __init__(
        self,
        name: str,
        images: _Array,
        labels: Labels,
        *,
        ids: list[str] | None = None,
        levels: int | None = None,
        rows: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Check shape and dtype, and floats for their range.

        Args:
            name: Name of the source.
            images: The array; a memory map is reopened, not copied, in other processes.
            labels: One value per image in every column.
            ids: One name per image; the default is its number in six digits.
            levels: Highest level of integer values where it isn't the dtype's.
            rows: Where each image lies in the array, if `ids` and `labels` come in another order.

        Raises:
            ValueError: The array does not hold images, or not in a dtype with a known range.
        """
        self.name, self.labels, self._images = name, labels, images
        self._channels_first = _channels_first(name, images)
        self.ids = ids or [f"{i:06d}" for i in range(len(images))]
        self.levels, self._rows = levels, rows
        self._bad: dict[int, str] = {}
        self._unit = False
        if images.dtype.kind == "f":
            self.levels = 0
            self._bad, self._unit = _check_floats(images)
        elif images.dtype.newbyteorder("=") not in (np.dtype(np.uint8), np.dtype(np.uint16)):
            raise ValueError(
                f"data {name!r} has dtype {images.dtype}, whose range is unknown; save uint8, "
                "uint16 or float images"
            )

    def pixels(self, index: int, preprocess: Preprocess) -> Pixels:
        """Return image `index` as (H, W, C); raises BadImage for floats out of range."""
        row = self._row(index)
        image = np.asarray(self._images[row])
        image = image.astype(np.float32 if self.levels == 0 else image.dtype.newbyteorder("="))
        if self._unit:
            image = image * 2 - 1
        if image.ndim == 2:
            return image[:, :, None]
        return np.moveaxis(image, 0, 2) if self._channels_first else image

    def size(self, index: int, preprocess: Preprocess) -> tuple[int, int]:
        """Return (H, W), the same for all images; raises BadImage for floats out of range."""
        self._row(index)
        height, width = self._images.shape[2:4] if self._channels_first else self._images.shape[1:3]
        return int(height), int(width)

    def content(self) -> Iterator[bytes]:
        """Yield shape, dtype and the bytes of up to 1024 evenly spaced images."""
        count = len(self._images)
        yield f"{self._images.shape}{self._images.dtype.str}".encode()
        for index in np.unique(np.linspace(0, count - 1, min(count, _HASHED_IMAGES)).astype(int)):
            yield np.ascontiguousarray(self._images[index]).tobytes()

    def _row(self, index: int) -> int:
        row = index if self._rows is None else int(self._rows[index])
        if row in self._bad:
            raise BadImage(self._bad[row])
        return row

    def __getstate__(self) -> dict[str, Any]:
        """Send a memory map to another process by its path."""
        state = self.__dict__.copy()
        if isinstance(self._images, np.memmap):
            state["_images"] = str(self._images.filename)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Reopen a memory map."""
        self.__dict__.update(state)
        if isinstance(state["_images"], str):
            self._images = np.load(state["_images"], mmap_mode="r", allow_pickle=False)


def open_npy(path: Path) -> ArraySource:
    """Open a `.npy` of images, mapped into memory.

    Raises:
        ValueError: It is unreadable, pickled, or holds no images.
    """
    try:
        images = map_npy(path)
    except ValueError as error:
        raise _unreadable(path, error) from error
    return ArraySource(path.name, images, {})


def open_npz(path: Path) -> ArraySource:
    """Open a `.npz`: images from `images`, `x` or the only array that has three or four axes.

    `labels`, `y` and any other array (N,) becomes a label column of its key's name, an array (N, K)
    the columns KEY_0..KEY_K-1. Pickled arrays and arrays of another length are passed over.

    Raises:
        ValueError: It is unreadable, holds no images or several candidates, or `labels` or `y` does
            not fit the images.
    """
    try:
        arrays, pickled = read_npz(path)
    except ValueError as error:
        raise _unreadable(path, error) from error
    candidates = [key for key in _IMAGE_KEYS if key in arrays][:1] or [
        key for key, array in arrays.items() if array.ndim in (3, 4)
    ]
    if len(candidates) != 1:
        raise ValueError(
            f"data {path.name!r} holds the arrays {sorted([*arrays, *pickled])}, of which "
            f"{len(candidates) or 'none'} could be the images; name them 'images' (not pickled)"
        )
    images = arrays.pop(candidates[0])
    source = ArraySource(path.name, images, {})
    for key in _LABEL_KEYS:
        if key in pickled or (key in arrays and len(np.atleast_1d(arrays[key])) != len(images)):
            raise ValueError(
                f"data {path.name!r}: {key!r} is pickled or not one row per image "
                f"({len(images)}); save numbers or strings of that length, or rename it"
            )
    for key, array in arrays.items():
        source.labels.update(_label_columns(key, array, len(images)))
    return source


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = " ".join(str(getattr(error, "strerror", None) or error).split())
    return ValueError(
        f"data {path.name!r} can't be read ({reason[:120]}); save it with numpy.save or "
        "numpy.savez as plain numbers, for nothing is unpickled"
    )


def _channels_first(name: str, images: _Array) -> bool:
    """Say whether an array is (N, C, H, W); refuse what holds no images."""
    shape = images.shape
    first = len(shape) == 4 and shape[1] in COLOURS
    last = len(shape) == 4 and shape[3] in COLOURS
    if len(shape) == 4 and not (first or last):
        first = shape[1] in _MANY_CHANNELS and shape[1] < min(shape[2:])
        last = shape[3] in _MANY_CHANNELS and shape[3] < min(shape[1:3])
    rule = (
        "images must be (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3, or with 2 or 5 to "
        "64 channels of larger images; leave the alpha out of RGBA"
    )
    if 0 in shape or not (len(shape) == 3 or first or last):
        raise ValueError(f"data {name!r} has the shape {shape}; {rule} and no empty axis")
    if first and last:
        raise ValueError(
            f"data {name!r} has the shape {shape}, in which either axis could be the channels; "
            "save gray images as (N, H, W), others with height and width above 3"
        )
    if len(shape) == 3 and shape[2] in COLOURS:
        raise ValueError(
            f"data {name!r} has the shape {shape}, which looks like one image (H, W, C); "
            "add a first axis: images[None]"
        )
    return first


def _check_floats(images: _Array) -> tuple[dict[int, str], bool]:
    """Find images that can't be used, and whether the range is [0, 1]."""
    bad: dict[int, str] = {}
    negative = False
    step = max(1, _CHUNK // images[0].size)
    for start in range(0, len(images), step):
        flat = np.asarray(images[start : start + step]).reshape(-1, images[0].size)
        for index, (low, high) in enumerate(zip(flat.min(1), flat.max(1), strict=True), start):
            if np.isnan(low):
                bad[index] = "holds NaN"
            elif low < -1 or high > 1:
                bad[index] = f"values {low:.4g} to {high:.4g} leave [-1, 1]; rescale or use uint8"
            else:
                negative |= bool(low < 0)
    return bad, not negative


def _label_columns(key: str, array: _Array, count: int) -> Labels:
    """Label columns of an array with one row per image; nothing if it isn't one."""
    if array.shape[:1] != (count,) or array.ndim > 2 or array.dtype.kind not in "biufUS":
        return {}
    if array.dtype.kind == "b":
        array = array.astype(np.int64)
    elif array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "backslashreplace")
    if array.ndim == 1:
        return {key: _plain(array)}
    if array.shape[1] > _MAX_COLUMNS:
        return {}
    return {f"{key}_{k}": _plain(array[:, k]) for k in range(array.shape[1])}


def _plain(array: _Array) -> list[Label]:
    values: list[Label] = array.tolist()
    return values
