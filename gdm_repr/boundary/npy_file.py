"""Arrays in ``.npy`` and ``.npz`` files, checked against the file's size before memory is taken.

Nothing is ever unpickled.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gdm_repr.files import write_atomically

Array = npt.NDArray[Any]
BOMB_BYTES = 64 << 20  # smaller ones may unpack to whatever they like
BOMB_RATIO = 500  # to the packed size; blank images reach some 200


def map_npy(path: Path) -> Array:
    """Map a ``.npy`` file into memory, which takes none.

    Raises:
        ValueError: it is no regular file, no whole array, or pickled.
    """
    if not path.is_file():  # to open a pipe would wait for ever
        raise ValueError("no such file, or no regular one")
    try:
        with path.open("rb") as file:
            if _is_pickled(file, path.stat().st_size, longer=True):
                raise ValueError("holds Python objects, which are not unpickled")
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a broken header is parsed as Python and raises what that raises
        raise ValueError(_reason(error)) from error


def read_npy(data: bytes) -> Array:
    """Read the bytes of a ``.npy`` file.

    Raises:
        ValueError: they are no whole array, or pickled.
    """
    try:
        if _is_pickled(io.BytesIO(data), len(data)):
            raise ValueError("holds Python objects, which are not unpickled")
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:
        raise ValueError(_reason(error)) from error


def write_array(path: Path, array: Array) -> None:
    """Write a ``.npy`` file whole or not at all."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # a name would be given the ending .npy
            np.save(file, array, allow_pickle=False)

    write_atomically(path, write, sync=False)


def read_npz(path: Path, keys: Collection[str] | None = None) -> tuple[dict[str, Array], set[str]]:
    """Read the arrays of a ``.npz`` file.

    Args:
        path: the file.
        keys: of the arrays; all when None.

    Returns:
        The arrays by name, and the names of those that are pickled.

    Raises:
        ValueError: it is no regular file, no whole archive of arrays, an array is not as large as
            its header says, or unpacks to more than any honest one would.
    """
    if not path.is_file():
        raise ValueError("no such file, or no regular one")
    if not path.stat().st_size:
        raise ValueError("No data left in file")
    arrays: dict[str, Array] = {}
    pickled: set[str] = set()
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                key = member.filename.removesuffix(".npy")
                if key == member.filename or (keys is not None and key not in keys):
                    continue
                if key in arrays or key in pickled:
                    raise ValueError(f"the array {key[:80]!r} is there twice")
                refuse_bomb(member)
                with archive.open(member) as file:
                    if _is_pickled(file, member.file_size):
                        pickled.add(key)
                        continue
                with archive.open(member) as file:
                    arrays[key] = np.lib.format.read_array(file, allow_pickle=False)
                    if file.read(1):
                        raise ValueError(f"the array {key[:80]!r} is longer than its header says")
    except Exception as error:  # as above, and what a broken zip raises
        raise ValueError(_reason(error)) from error
    return arrays, pickled


def refuse_bomb(member: zipfile.ZipInfo, most: int = BOMB_BYTES, ratio: int = BOMB_RATIO) -> None:
    """Refuse a member of a zip that unpacks to very much more than it is packed.

    Raises:
        ValueError: it does.
    """
    if member.file_size > most and member.file_size > ratio * member.compress_size:
        raise ValueError(
            f"{member.filename[:80]!r} would unpack {member.compress_size} bytes to "
            f"{member.file_size} (a decompression bomb?)"
        )


def _is_pickled(file: IO[bytes], size: int, *, longer: bool = False) -> bool:
    """Check an array's header against its size in bytes; say whether it holds Python objects."""
    version = np.lib.format.read_magic(file)
    read: Any = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:  # 3.0, of names that are not latin-1: only structures have names
        raise ValueError(f"version {version} of the format holds no plain numbers")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        return True
    needs, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or needs > there or (needs < there and not longer):
        raise ValueError(f"an array of shape {shape} and {dtype} has not {size} bytes")
    return False


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:300]
